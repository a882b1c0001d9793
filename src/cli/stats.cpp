// SPDX-License-Identifier: Apache-2.0
// attngraph stats: figures of every head, or one head drawn.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "command.hpp"
#include "draw.hpp"
#include "flags.hpp"
#include "graph_input.hpp"
#include "table.hpp"
#include "terminal.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct StatsFlags {
  std::string path, draw;
  bool json = false;
};

Json summary_json(const summary& s) {
  return {{"rows", s.rows},
          {"edges", s.edges},
          {"empty_rows", s.empty_rows},
          {"rows_without_edges", s.rows_without_edges},
          {"mean_row_edges", s.mean_row_edges},
          {"max_row_edges", s.max_row_edges},
          {"kept_mass_mean", s.kept_mass_mean},
          {"kept_mass_min", s.kept_mass_min},
          {"weight_min", s.weight_min},
          {"weight_max", s.weight_max},
          {"entropy_mean", s.entropy_mean},
          {"mean_distance", s.mean_distance},
          {"self_share", s.self_share},
          {"previous_share", s.previous_share},
          {"first_share", s.first_share}};
}

void print_stats_json(const result& graph) {
  Json slices = Json::array();
  for (std::int64_t i = 0; i < graph.slice_count(); ++i) {
    const slice s = graph.slice(i);
    Json item = {{"batch", s.batch}, {"layer", s.layer}, {"head", s.head}};
    item.update(summary_json(graph.summary(i)));
    slices.push_back(std::move(item));
  }
  print_json({{"slices", std::move(slices)}, {"all", summary_json(graph.summary())}});
}

void print_stats_table(const result& graph) {
  const summary all = graph.summary();
  const bool entropy = !std::isnan(all.entropy_mean);
  bool batches = false;
  for (std::int64_t i = 0; i < graph.slice_count(); ++i) batches = batches || graph.slice(i).batch != 0;

  std::vector<std::string> headings = {"layer", "head",  "rows",   "edges",  "per row", "most",
                                       "kept",  "least", "itself", "before", "first",   "distance"};
  if (batches) headings.insert(headings.begin(), "batch");
  if (entropy) headings.push_back("entropy");
  Table table(headings);
  const auto row = [&](std::vector<std::string> cells, const summary& s) {
    const auto one_decimal = [](double v) { return std::isnan(v) ? std::string("-") : fmt::format("{:.1f}", v); };
    for (std::string& cell : std::vector<std::string>{
             grouped(s.rows), grouped(s.edges), one_decimal(s.mean_row_edges), grouped(s.max_row_edges),
             percent(s.kept_mass_mean), percent(s.kept_mass_min), percent(s.self_share), percent(s.previous_share),
             percent(s.first_share), one_decimal(s.mean_distance)})
      cells.push_back(std::move(cell));
    if (entropy) cells.push_back(fmt::format("{:.2f}", s.entropy_mean));
    table.row(std::move(cells));
  };
  for (std::int64_t i = 0; i < graph.slice_count(); ++i) {
    const slice s = graph.slice(i);
    std::vector<std::string> cells = {fmt::format("{}", s.layer), fmt::format("{}", s.head)};
    if (batches) cells.insert(cells.begin(), fmt::format("{}", s.batch));
    row(std::move(cells), graph.summary(i));
  }
  std::vector<std::string> label(batches ? 3 : 2);
  label[0] = "all";
  row(std::move(label), all);
  fmt::print("{}", table.text());
  fmt::print(
      "\nper row, most: edges of a query; kept, least: its attention that the edges hold, mean and least;\n"
      "itself, before, first: share of the edges' weight on the query's own, the previous and the first position.\n");
  if (all.empty_rows > 0) fmt::print("{} rows have no key to see.\n", grouped(all.empty_rows));
  if (all.rows_without_edges > 0) fmt::print("{} rows have keys but no edge.\n", grouped(all.rows_without_edges));
}

std::int64_t find_slice(const result& graph, const std::string& wanted) {
  const std::size_t colon = wanted.find(':');
  if (colon == std::string::npos) throw UsageError(fmt::format("--draw: '{}' is not LAYER:HEAD", wanted));
  const auto layer = parse_list("--draw", wanted.substr(0, colon)),
             head = parse_list("--draw", wanted.substr(colon + 1));
  if (layer.size() != 1 || head.size() != 1) throw UsageError("--draw: give one layer and one head, like 5:0");
  std::vector<std::string> there;
  for (std::int64_t i = 0; i < graph.slice_count(); ++i) {
    const slice s = graph.slice(i);
    if (s.layer == layer[0] && s.head == head[0]) return i;
    if (there.size() < 24) there.push_back(fmt::format("{}:{}", s.layer, s.head));
  }
  throw error(ATTNGRAPH_ERROR_NOT_FOUND, fmt::format("the graph has no {}; it has {}{}", wanted, join(there),
                                                     graph.slice_count() > 24 ? " and more" : ""));
}

int stats(const StatsFlags& flags) {
  const result graph = result::load(flags.path);
  if (!flags.draw.empty())
    fmt::print("{}", draw_head(graph, find_slice(graph, flags.draw), terminal_width(), use_colour()));
  else if (flags.json)
    print_stats_json(graph);
  else
    print_stats_table(graph);
  return kSuccess;
}

}  // namespace

void add_stats(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("stats", "Figures of every head of a graph, or one head drawn");
  const auto flags = std::make_shared<StatsFlags>();
  command->add_option("graph", flags->path, "A graph: " + suffixes(ATTNGRAPH_FORMAT_READ))
      ->required()
      ->type_name("FILE");
  CLI::Option* json = command->add_flag("--json", flags->json, "Print JSON");
  command->add_option("--draw", flags->draw, "Draw one head in the terminal")->type_name("LAYER:HEAD")->excludes(json);
  command->callback([flags, &run] { run = [flags] { return stats(*flags); }; });
}

}  // namespace attngraph::cli
