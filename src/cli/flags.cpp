// SPDX-License-Identifier: Apache-2.0
#include "flags.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "text.hpp"

namespace attngraph::cli {
namespace {

constexpr std::int64_t kLongestRange = 1 << 20;  // a layer or head list longer than this is a slip of the finger

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1)
    parts.push_back(text.substr(begin, end - begin));
  parts.push_back(text.substr(begin));
  return parts;
}

template <class T>
std::optional<T> number(const std::string& text) {
  T value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void require_finite(const std::string& flag, const std::optional<double>& value) {
  if (value && !std::isfinite(*value)) throw UsageError(fmt::format("{}: {} is not a finite number", flag, *value));
}

}  // namespace

std::vector<std::int64_t> parse_list(const std::string& flag, const std::string& text) {
  std::vector<std::int64_t> values;
  for (const std::string& part : split(text, ',')) {
    const std::size_t dash = part.find('-');
    const auto first = number<std::int64_t>(part.substr(0, dash));
    const auto last = dash == std::string::npos ? first : number<std::int64_t>(part.substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last - *first >= kLongestRange)
      throw UsageError(fmt::format("{}: '{}' is not a list like 0-3,7", flag, text));
    for (std::int64_t v = *first; v <= *last; ++v) values.push_back(v);
  }
  std::sort(values.begin(), values.end());
  const auto twice = std::adjacent_find(values.begin(), values.end());
  if (twice != values.end())
    throw UsageError(
        fmt::format("{}: '{}' names {} twice; it is a list of numbers like 0-3,7, not a mask", flag, text, *twice));
  return values;
}

std::vector<double> parse_numbers(const std::string& flag, const std::string& text) {
  std::vector<double> values;
  for (const std::string& part : split(text, ',')) {
    const auto value = number<double>(part);
    if (!value || !std::isfinite(*value))
      throw UsageError(fmt::format("{}: '{}' is not a list of numbers like 0,0.1,0.25", flag, text));
    values.push_back(*value);
  }
  return values;
}

std::string suffixes(std::uint32_t abilities) {
  std::vector<std::string> all;
  for (const graph_format& format : graph_formats(abilities)) all.emplace_back(format.suffix);
  return join(all);
}

std::string output_files() { return suffixes() + ", or - for standard output"; }

void InputFlags::add_qk(CLI::App& app) {
  app.add_option("--q", q, "Name of the query tensor (default: q.<layer>)")->type_name("NAME");
  app.add_option("--k", k, "Name of the key tensor (default: k.<layer>)")->type_name("NAME");
  app.add_option("--layout", layout,
                 "Order of their dimensions: bhsd, [B, H, N, D], or bshd, [B, N, H, D] (default: bhsd)")
      ->check(CLI::IsMember({"bhsd", "bshd"}));
}

void InputFlags::add_matrix(CLI::App& app) {
  app.add_option("--name", name, "Name of the matrix, when the file holds several tensors")->type_name("NAME");
  app.add_option("--leading", leading, "What axis 0 of a 4-D matrix counts (default: layer)")
      ->check(CLI::IsMember({"layer", "batch"}));
}

void InputFlags::add_part(CLI::App& app) {
  app.add_option("--layers", layers, "Layers to take, like 0-3,7 (default: all)")->type_name("LIST");
  app.add_option("--heads", heads, "Query heads to take, like 0,2 (default: all)")->type_name("LIST");
  app.add_option("--query-range", query_range, "Queries A to B-1 only; positions stay global")->type_name("A:B");
  add_words(app);
}

void InputFlags::add_words(CLI::App& app) {
  app.add_option("--tokens", tokens,
                 "Words: a JSON list (or a list of lists, one a sequence) or a text, one token a line")
      ->type_name("FILE");
  app.add_option("--query-tokens", query_tokens, "Words of the queries, when those are not the keys (cross attention)")
      ->type_name("FILE");
}

std::optional<std::vector<std::int64_t>> InputFlags::layer_list() const {
  if (layers.empty()) return std::nullopt;
  return parse_list("--layers", layers);
}

std::vector<std::int64_t> InputFlags::head_list() const {
  return heads.empty() ? std::vector<std::int64_t>() : parse_list("--heads", heads);
}

std::optional<QueryRange> InputFlags::range() const {
  if (query_range.empty()) return std::nullopt;
  const auto parts = split(query_range, ':');
  const auto begin = parts[0].empty() ? 0 : number<std::int64_t>(parts[0]);
  const auto end = parts.size() == 2 && !parts[1].empty() ? number<std::int64_t>(parts[1]) : std::nullopt;
  const bool end_missing = parts.size() == 2 && !parts[1].empty() && !end;
  if (parts.size() != 2 || !begin || end_missing || *begin < 0 || (end && *end <= *begin))
    throw UsageError(fmt::format("--query-range: '{}' is not A:B with 0 <= A < B", query_range));
  return QueryRange{*begin, end};
}

void ScoreFlags::add(CLI::App& app, bool scores) {
  if (scores) {
    app.add_option("--scale", scale, "Factor of q . k (default: metadata, else 1/sqrt(D))");
    app.add_option("--softcap", softcap, "Scores become C * tanh(s / C)")->type_name("C");
    app.add_option("--alibi", alibi,
                   "Scores fall by a slope times the distance of the key (ALiBi): standard, none, or a slope for every "
                   "query head, like 0.25,0.0625 (default: alibi.<layer>, else metadata, else none)")
        ->type_name("SLOPES");
    app.add_option("--products", products,
                   "CPU: auto, or float: never by pairs of bf16, whatever the processor has (default: auto)")
        ->check(CLI::IsMember({"auto", "float"}));
  }
  CLI::Option* on = app.add_flag("--causal", causal,
                                 scores ? "A query sees keys up to its own position (default for queries and keys: "
                                          "metadata, else yes)"
                                        : "A query sees keys up to its own position (default: metadata, else no)");
  CLI::Option* off = app.add_flag("--no-causal", no_causal, "A query sees every key");
  on->excludes(off);
  app.add_option("--query-offset", query_offset, "Query i stands at key position i + N (default: Nk - Nq)")
      ->type_name("N");
  app.add_option("--window", window, "A query sees the N keys nearest to it; 0: all")->type_name("N");
}

void BudgetFlags::add(CLI::App& app) {
  app.add_option("--budget", graph, "At most the N heaviest edges of the whole graph")->type_name("N");
  app.add_option("--head-budget", head, "At most the N heaviest edges of a head")->type_name("N");
}

void BudgetFlags::apply(sink& to) const {
  if (graph && *graph <= 0) throw UsageError("--budget: give at least 1");
  if (head && *head <= 0) throw UsageError("--head-budget: give at least 1");
  to.set_budget(static_cast<std::uint64_t>(graph.value_or(0)), static_cast<std::uint64_t>(head.value_or(0)));
}

void SelectionFlags::add(CLI::App& app, bool scores) {
  app.add_option("-t,--threshold", threshold, "Least weight of an edge (default: 0.05; none with --top-k or --mass)")
      ->type_name("T");
  app.add_option("--top-k", top_k, "At most the N heaviest keys of a query")->type_name("N");
  app.add_option("--mass", mass, "The fewest heaviest keys whose weights sum to P")->type_name("P");
  app.add_option("--max-edges", max_edges, "Fail, rather than truncate, when there are more")->type_name("N");
  budget.add(app);
  app.add_option("--decision", decision, "How borderline pairs are decided: fast, certified (default: fast)")
      ->check(CLI::IsMember({"fast", "certified"}));
  if (scores) app.add_flag("--allow-dense", allow_dense, "With -t 0: every allowed pair is an edge");
  app.add_option("--nonfinite", nonfinite,
                 "NaN and infinity in the input: error, or skip: leave out, and count (default: error)")
      ->check(CLI::IsMember({"error", "skip"}));
  app.add_option("--stats", stats, "More statistics: entropy,columns,distances,tokens; heads: all of them")
      ->type_name("LIST");
}

double SelectionFlags::effective_threshold() const {
  if (threshold) return *threshold;
  const attngraph_options defaults = ATTNGRAPH_OPTIONS_INIT;
  return top_k || mass ? 0 : defaults.threshold;
}

std::string SelectionFlags::threshold_origin() const {
  return threshold ? "flag" : top_k || mass ? "default with --top-k or --mass" : "default";
}

std::uint32_t SelectionFlags::stats_bits() const {
  std::uint32_t bits = 0;
  for (const std::string& name : stats.empty() ? std::vector<std::string>() : split(stats, ',')) {
    if (name == "entropy")
      bits |= ATTNGRAPH_STATS_ENTROPY;
    else if (name == "columns")
      bits |= ATTNGRAPH_STATS_COLUMNS;
    else if (name == "distances")
      bits |= ATTNGRAPH_STATS_DISTANCES;
    else if (name == "tokens")
      bits |= ATTNGRAPH_STATS_TOKENS;
    else if (name == "heads")
      bits |= ATTNGRAPH_STATS_HEADS;
    else
      throw UsageError(fmt::format("--stats: '{}' is none of entropy, columns, distances, tokens, heads", name));
  }
  return bits;
}

bool SelectionFlags::wants_heads() const {
  const std::vector<std::string> names = split(stats, ',');
  return std::find(names.begin(), names.end(), "heads") != names.end();
}

void SelectionFlags::apply(options& o) const {
  o.threshold(effective_threshold()).top_k(top_k.value_or(0)).mass(mass.value_or(0)).stats(stats_bits());
  o.allow_dense(allow_dense).nonfinite(nonfinite == "skip" ? ATTNGRAPH_NONFINITE_SKIP : ATTNGRAPH_NONFINITE_ERROR);
  o.decision(decision == "certified" ? ATTNGRAPH_DECISION_CERTIFIED : ATTNGRAPH_DECISION_FAST);
  require_finite("--threshold", threshold);
  require_finite("--mass", mass);
  // To the library 0 means "no such condition"; from a person it is a mistake.
  if (top_k && *top_k <= 0) throw UsageError("--top-k: give at least 1");
  if (mass && !(*mass > 0)) throw UsageError("--mass: give more than 0 and at most 1");
  if (max_edges && *max_edges <= 0) throw UsageError("--max-edges: give at least 1");
}

void RunFlags::add(CLI::App& app) {
  app.add_option("--backend", backend,
                 fmt::format("Who computes: {} (default: the best)", fmt::join(backend_names(), ", ")))
      ->type_name("NAME");
  app.add_option("--threads", threads, "Threads (default: all; the answer does not depend on it)")->type_name("N");
  app.add_option("--device", device, "auto, cpu, cuda (all), cuda:0 (default: auto)")->type_name("NAME");
  app.add_option("--workspace", workspace_mib, "CUDA: device memory beside inputs and answer (default: an eighth)")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 24))
      ->type_name("MIB");
  app.add_flag("--quiet", quiet, "No progress, no summary");
}

void RunFlags::apply(options& o) const { o.backend(backend).threads(threads).workspace_bytes(workspace_mib << 20); }

void OutputFlags::add_path(CLI::App& app) {
  app.add_option("-o,--output", path, "Output: " + output_files())->type_name("FILE");
}

void OutputFlags::add_format(CLI::App& app) {
  app.add_option("--format", format, "Format, whatever the suffix (standard output: csv)")->type_name("NAME");
  app.add_flag("--rows", rows, "Row statistics beside the edges");
  app.add_flag("--labels", labels, "Columns query_token and key_token");
  app.add_option("--direction", direction,
                 "Of edges in " + suffixes(ATTNGRAPH_FORMAT_DIRECTION) + " (default: query_to_key)")
      ->check(CLI::IsMember({"query_to_key", "key_to_query"}));
  app.add_flag("--csv-raw", csv_raw, "No ' before cells that a spreadsheet would run");
}

void OutputFlags::require_path() const {
  if (path.empty()) throw UsageError(fmt::format("give -o FILE ({}), or -o - for standard output", suffixes()));
}

write_options OutputFlags::how() const {
  return {.key_to_query = direction == "key_to_query", .labels = labels, .csv_raw = csv_raw, .rows = rows};
}

sink OutputFlags::open(const std::vector<std::string>& inputs) const {
  for (const std::string& input : inputs) {
    std::error_code ignored;  // a path that does not exist is not the same file
    if (path != "-" && std::filesystem::equivalent(input, path, ignored))
      throw error(ATTNGRAPH_ERROR_ARGUMENT,
                  fmt::format("'{}' is an input of this command; choose another output", path));
  }
  return sink::file(path, format, how());
}

}  // namespace attngraph::cli
