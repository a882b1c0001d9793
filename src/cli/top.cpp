// SPDX-License-Identifier: Apache-2.0
// attngraph top: the heaviest edges of a graph, in words when they are known.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "command.hpp"
#include "flags.hpp"
#include "graph_input.hpp"
#include "links.hpp"
#include "part_flags.hpp"
#include "table.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct TopFlags {
  std::string path;
  std::int64_t n = 10;
  bool links = false, json = false;
  PartFlags part;
};

void print_top_json(const result& graph, const std::vector<edge>& edges) {
  Json list = Json::array();
  for (const edge& e : edges) {
    Json item = {{"batch", e.batch}, {"layer", e.layer}, {"head", e.head},
                 {"query", e.query}, {"key", e.key},     {"weight", e.weight}};
    if (const auto token = graph.label(ATTNGRAPH_QUERIES, e.batch, e.query)) item["query_token"] = std::string(*token);
    if (const auto token = graph.label(ATTNGRAPH_KEYS, e.batch, e.key)) item["key_token"] = std::string(*token);
    list.push_back(std::move(item));
  }
  print_json(list);
}

void print_top_table(const result& graph, const std::vector<edge>& edges) {
  const bool batches = std::any_of(edges.begin(), edges.end(), [](const edge& e) { return e.batch != 0; });
  const bool words = graph.label_lists(ATTNGRAPH_KEYS) + graph.label_lists(ATTNGRAPH_QUERIES) > 0;
  std::vector<std::string> headings = {"layer", "head", "query", "key", "weight"};
  if (batches) headings.insert(headings.begin(), "batch");
  if (words) headings.insert(headings.end(), {"<", "<"});
  Table table(headings);
  for (const edge& e : edges) {
    std::vector<std::string> cells;
    if (batches) cells.push_back(fmt::format("{}", e.batch));
    for (const std::int64_t n : {e.layer, e.head, e.query, e.key}) cells.push_back(fmt::format("{}", n));
    cells.push_back(weight_text(e.weight));
    if (words) {
      cells.push_back(word(graph.label(ATTNGRAPH_QUERIES, e.batch, e.query), e.query));
      cells.push_back("→ " + word(graph.label(ATTNGRAPH_KEYS, e.batch, e.key), e.key));
    }
    table.row(std::move(cells));
  }
  fmt::print("{}", table.text());
}

int top(const TopFlags& flags) {
  if (flags.n < 0) throw UsageError("-n: give a number of edges, 0 or more");
  if (flags.links && flags.part.any()) throw UsageError("--links: give it without the flags that choose a part");
  const result graph = result::load(flags.path);
  std::vector<edge> edges;
  if (flags.links) {
    for (std::int64_t i = 0; i < graph.slice_count(); ++i)
      add_links(graph.slice(i), own_position(graph), static_cast<std::size_t>(flags.n), edges);
  } else {
    edges = graph.top(flags.n, flags.part.of(graph));
  }
  if (flags.json)
    print_top_json(graph, edges);
  else
    print_top_table(graph, edges);
  return kSuccess;
}

}  // namespace

void add_top(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("top", "The heaviest edges of a graph");
  const auto flags = std::make_shared<TopFlags>();
  command->add_option("graph", flags->path, "A graph: " + suffixes(ATTNGRAPH_FORMAT_READ))
      ->required()
      ->type_name("FILE");
  command->add_option("-n", flags->n, "How many (default: 10)")->type_name("N");
  command->add_flag("--links", flags->links, "Only between different positions, and not to the first");
  command->add_flag("--json", flags->json, "Print JSON");
  flags->part.add(*command);
  command->callback([flags, &run] { run = [flags] { return top(*flags); }; });
}

}  // namespace attngraph::cli
