// SPDX-License-Identifier: Apache-2.0
// attngraph heads: every head in figures of all its attention.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>

#include "command.hpp"
#include "flags.hpp"
#include "graph_input.hpp"
#include "table.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct HeadsFlags {
  std::string path, sort;
  std::int64_t window = 16;
  std::optional<std::int64_t> n;
  bool json = false, partial = false;
};

// A share or mean, its name in JSON and --sort, and its heading in the table.
struct Column {
  const char* name;
  const char* heading;
  double head_figures::*field;
  bool is_share;
};
constexpr Column kColumns[] = {
    {"kept_mass", "kept", &head_figures::kept_mass, true},
    {"entropy", "entropy", &head_figures::entropy, false},
    {"self_share", "itself", &head_figures::self_share, true},
    {"previous_share", "before", &head_figures::previous_share, true},
    {"window_share", "window", &head_figures::window_share, true},
    {"mean_distance", "distance", &head_figures::mean_distance, false},
    {"first_share", "first", &head_figures::first_share, true},
    {"heaviest_share", "heaviest", &head_figures::heaviest_share, true},
    {"punctuation_share", "marks", &head_figures::punctuation_share, true},
    {"induction_share", "induction", &head_figures::induction_share, true},
    {"duplicate_share", "duplicate", &head_figures::duplicate_share, true},
    {"same_word_share", "word", &head_figures::same_word_share, true},
};

bool is_known(const std::vector<head_figures>& table, const Column& column) {
  return std::any_of(table.begin(), table.end(), [&](const auto& h) { return !std::isnan(h.*column.field); });
}

void require_sums(const std::vector<head_figures>& table, const HeadsFlags& flags, bool two_sided) {
  const bool any_row = std::any_of(table.begin(), table.end(), [](const auto& h) { return h.queries > 0; });
  if (flags.partial || !any_row) return;
  for (const Column& column : {kColumns[1], kColumns[2], kColumns[6]}) {
    if (is_known(table, column)) continue;
    if (two_sided && column.field == &head_figures::self_share) continue;  // no distance between two sequences
    throw error(ATTNGRAPH_ERROR_NOT_FOUND,
                fmt::format("{}: the graph has no {} of all attention; make it with --stats heads, or give --partial "
                            "for what is known",
                            sanitised(flags.path), column.name));
  }
}

void sort_by(std::vector<head_figures>& table, const std::string& name) {
  const auto column =
      std::find_if(std::begin(kColumns), std::end(kColumns), [&](const Column& c) { return name == c.name; });
  if (column == std::end(kColumns)) {
    std::vector<std::string> names;
    for (const Column& c : kColumns) names.emplace_back(c.name);
    throw UsageError(fmt::format("--sort: '{}' is none of {}", name, join(names)));
  }
  std::stable_sort(table.begin(), table.end(), [&](const auto& a, const auto& b) {
    const auto rank = [&](double v) { return std::isnan(v) ? -HUGE_VAL : v; };
    return rank(a.*column->field) > rank(b.*column->field);
  });
}

void print_heads_json(const std::vector<head_figures>& table) {
  Json list = Json::array();
  for (const head_figures& h : table) {
    Json item = {{"batch", h.batch}, {"layer", h.layer}, {"head", h.head}, {"queries", h.queries}, {"edges", h.edges}};
    for (const Column& column : kColumns) item[column.name] = h.*column.field;
    item["heaviest_key"] = h.heaviest_key >= 0 ? Json(h.heaviest_key) : Json();
    list.push_back(std::move(item));
  }
  print_json(list);
}

void print_heads_table(const std::vector<head_figures>& table, const HeadsFlags& flags) {
  const bool batches = std::any_of(table.begin(), table.end(), [](const auto& h) { return h.batch != 0; });
  std::vector<std::string> headings = {"layer", "head", "edges"};
  if (batches) headings.insert(headings.begin(), "batch");
  std::vector<Column> shown;
  for (const Column& column : kColumns) {
    if (!is_known(table, column)) continue;
    shown.push_back(column);
    headings.emplace_back(column.heading);
    if (column.field == &head_figures::heaviest_share) headings.emplace_back("key");
  }
  Table text(headings);
  for (const head_figures& h : table) {
    std::vector<std::string> cells;
    if (batches) cells.push_back(fmt::format("{}", h.batch));
    for (const std::int64_t n : {h.layer, h.head}) cells.push_back(fmt::format("{}", n));
    cells.push_back(grouped(h.edges));
    for (const Column& column : shown) {
      const double value = h.*column.field;
      cells.push_back(std::isnan(value) ? "-" : column.is_share ? percent(value) : fmt::format("{:.2f}", value));
      if (column.field == &head_figures::heaviest_share) cells.push_back(fmt::format("{}", h.heaviest_key));
    }
    text.row(std::move(cells));
  }
  fmt::print("{}", text.text());
  fmt::print(
      "\nkept: attention that the edges hold. Of all attention: on the query's own position (itself), the one before "
      "it,\n"
      "keys nearer than {} (window), key 0 (first), the key that receives most (heaviest, key), punctuation (marks), "
      "the\n"
      "key after an earlier copy of the token (induction), its copies (duplicate), its word (word).\n",
      flags.window);
}

int heads(const HeadsFlags& flags) {
  if (flags.window < 1) throw UsageError("--window: give at least 1");
  if (flags.n && *flags.n < 0) throw UsageError("-n: give a number of heads, 0 or more");
  const result graph = result::load(flags.path);
  std::vector<head_figures> table = graph.heads(flags.window);
  require_sums(table, flags, graph.two_sided());
  if (!flags.sort.empty()) sort_by(table, flags.sort);
  if (flags.n && static_cast<std::size_t>(*flags.n) < table.size()) table.resize(static_cast<std::size_t>(*flags.n));
  if (flags.json)
    print_heads_json(table);
  else
    print_heads_table(table, flags);
  return kSuccess;
}

}  // namespace

void add_heads(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("heads", "Every head in figures of all its attention: who looks where");
  const auto flags = std::make_shared<HeadsFlags>();
  command->add_option("graph", flags->path, "A graph made with --stats heads: " + suffixes(ATTNGRAPH_FORMAT_WHOLE))
      ->required()
      ->type_name("FILE");
  command->add_option("--sort", flags->sort, "Largest first, by a figure: induction_share, entropy, ...")
      ->type_name("NAME");
  command->add_option("-n", flags->n, "The first N heads (default: all)")->type_name("N");
  command->add_option("--window", flags->window, "Keys nearer than N count as the window (default: 16)")
      ->type_name("N");
  command->add_flag("--partial", flags->partial, "What is known, of a graph made without --stats heads");
  command->add_flag("--json", flags->json, "Print JSON");
  command->callback([flags, &run] { run = [flags] { return heads(*flags); }; });
}

}  // namespace attngraph::cli
