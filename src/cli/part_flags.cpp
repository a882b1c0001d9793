// SPDX-License-Identifier: Apache-2.0
#include "part_flags.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "flags.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

std::optional<std::int64_t> position(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "A:B", where either may be missing.
struct Ends {
  std::optional<std::int64_t> first, last;
};

Ends parse_ends(const char* flag, const std::string& text) {
  const std::size_t colon = text.find(':');
  const auto bad = [&] { return UsageError(fmt::format("{}: '{}' is not A:B, A: or :B", flag, text)); };
  if (colon == std::string::npos || text.size() == 1) throw bad();
  const auto end = [&](std::string_view part) {
    const auto value = position(part);
    if (!part.empty() && !value) throw bad();
    return value;
  };
  const std::string_view whole = text;
  return {end(whole.substr(0, colon)), end(whole.substr(colon + 1))};
}

void parse_range(const char* flag, const std::string& text, std::int64_t& begin, std::int64_t& end) {
  if (text.empty()) return;
  const Ends ends = parse_ends(flag, text);
  begin = ends.first.value_or(0);
  end = ends.last.value_or(INT64_MAX);
  if (begin < 0 || end <= begin) throw UsageError(fmt::format("{}: '{}' holds nothing; give 0 <= A < B", flag, text));
}

std::vector<std::array<std::int64_t, 2>> parse_pairs(const std::string& text) {
  std::vector<std::array<std::int64_t, 2>> pairs;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const Ends pair = parse_ends("--heads", text.substr(begin, end - begin));
    if (!pair.first || !pair.last || *pair.first < 0 || *pair.last < 0)
      throw UsageError(fmt::format("--heads: '{}' is not a list like 0,2 or of LAYER:HEAD like 5:0,7:3", text));
    pairs.push_back({*pair.first, *pair.last});
    begin = end + 1;
  }
  return pairs;
}

// The text without white space around it, however a tokenizer writes that.
std::string_view bare(std::string_view token) {
  static constexpr std::array<std::string_view, 7> kSpaces = {" ", "\n", "\t", "\r", "\u0120", "\u010A", "\u2581"};
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view space : kSpaces) {
      if (token.starts_with(space)) {
        token.remove_prefix(space.size());
        again = true;
      }
      if (token.ends_with(space)) {
        token.remove_suffix(space.size());
        again = true;
      }
    }
  }
  return token;
}

// Where such words stand: among the keys, or, when the queries are another sequence, among those.
std::vector<std::int64_t> positions(const result& graph, attngraph_side side, const std::vector<std::string>& wanted,
                                    const char* flag) {
  std::vector<std::int64_t> found;
  if (wanted.empty()) return found;
  if (!graph.two_sided()) side = ATTNGRAPH_KEYS;
  const std::int64_t lists = graph.label_lists(side), count = lists == 1 ? graph.label_count(side, 0) : 0;
  if (lists > 1)
    throw error(ATTNGRAPH_ERROR_ARGUMENT,
                fmt::format("{}: every sequence has words of its own, and a position is one for all; give --queries or "
                            "--keys",
                            flag));
  if (count == 0) throw error(ATTNGRAPH_ERROR_ARGUMENT, fmt::format("{}: the graph has no tokens", flag));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string_view token = graph.label(side, 0, i).value_or("");
    const auto is = [&](const std::string& text) { return token == text || bare(token) == text; };
    if (std::any_of(wanted.begin(), wanted.end(), is)) found.push_back(i);
  }
  if (found.empty())
    throw error(ATTNGRAPH_ERROR_NOT_FOUND,
                fmt::format("{}: no token of the graph is '{}'", flag, join(wanted, "' or '")));
  return found;
}

}  // namespace

void PartFlags::add(CLI::App& app) {
  app.add_option("-t,--threshold", threshold, "Least weight")->type_name("T");
  app.add_option("--top-k", top_k, "At most the N heaviest keys of a query")->type_name("N");
  app.add_option("--layers", layers, "Layers, like 0-3,7")->type_name("LIST");
  app.add_option("--heads", heads, "Heads, like 0,2, or pairs LAYER:HEAD, like 5:0,7:3")->type_name("LIST");
  app.add_option("--queries", queries, "Queries A to B-1")->type_name("A:B");
  app.add_option("--keys", keys, "Keys A to B-1")->type_name("A:B");
  app.add_option("--distance", distance, "Positions between query and key, both ends included")->type_name("A:B");
  app.add_flag("--without-first", without_first, "No edges to key 0, on which many heads rest");
  app.add_option("--query-token", query_tokens, "Only queries whose token is TEXT (may be given again)")
      ->type_name("TEXT");
  app.add_option("--key-token", key_tokens, "Only keys whose token is TEXT (may be given again)")->type_name("TEXT");
}

bool PartFlags::any() const {
  return threshold || top_k || without_first || !(layers + heads + queries + keys + distance).empty() ||
         !query_tokens.empty() || !key_tokens.empty();
}

part PartFlags::of(const result& graph) const {
  part p;
  if (threshold && !(*threshold >= 0 && std::isfinite(*threshold)))
    throw UsageError("--threshold: give a number, 0 or more");
  if (top_k && *top_k <= 0) throw UsageError("--top-k: give at least 1");
  p.threshold = threshold.value_or(0);
  p.top_k = top_k.value_or(0);
  if (!layers.empty()) p.layers = parse_list("--layers", layers);
  if (heads.find(':') != std::string::npos)
    p.layer_heads = parse_pairs(heads);
  else if (!heads.empty())
    p.heads = parse_list("--heads", heads);
  parse_range("--queries", queries, p.query_begin, p.query_end);
  parse_range("--keys", keys, p.key_begin, p.key_end);
  if (without_first) {
    p.key_begin = std::max<std::int64_t>(p.key_begin, 1);
    if (p.key_end == 0) p.key_end = INT64_MAX;
  }
  if (!distance.empty()) {
    const Ends ends = parse_ends("--distance", distance);
    p.distance_min = ends.first.value_or(p.distance_min);
    p.distance_max = ends.last.value_or(p.distance_max);
    if (p.distance_min > p.distance_max)
      throw UsageError(fmt::format("--distance: '{}' holds nothing; give A <= B", distance));
  }
  p.query_positions = positions(graph, ATTNGRAPH_QUERIES, query_tokens, "--query-token");
  p.key_positions = positions(graph, ATTNGRAPH_KEYS, key_tokens, "--key-token");
  return p;
}

}  // namespace attngraph::cli
