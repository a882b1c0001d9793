// SPDX-License-Identifier: Apache-2.0
// attngraph part and attngraph group: smaller graphs out of larger ones.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "command.hpp"
#include "flags.hpp"
#include "part_flags.hpp"
#include "terminal.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct PartCommand {
  std::string from;
  PartFlags part;
  BudgetFlags budget;
  OutputFlags output;
};

struct GroupCommand {
  std::string from, spans, rest;
  OutputFlags output;
};

void write_graph(const result& graph, const OutputFlags& output, const std::string& from,
                 const BudgetFlags& budget = {}) {
  stop_if_interrupted();
  sink to = output.open({from});
  budget.apply(to);
  graph.write(to);
  stop_if_interrupted();
  to.finish();
}

int make_part(const PartCommand& flags) {
  flags.output.require_path();
  watch_interrupts();
  const result graph = result::load(flags.from);
  write_graph(graph.part(flags.part.of(graph)), flags.output, flags.from, flags.budget);
  return kSuccess;
}

// Runs of tokens of the same word.
spans word_spans(const result& graph) {
  if (graph.token_count() == 0)
    throw error(ATTNGRAPH_ERROR_ARGUMENT, "the graph has no tokens, which say where words begin; give --spans");
  spans s;
  s.rest = ATTNGRAPH_REST_OWN;
  const std::vector<std::int64_t> words = graph.words();
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i == 0 || words[i] != words[i - 1]) {
      s.begins.push_back(static_cast<std::int64_t>(i));
      s.ends.push_back(static_cast<std::int64_t>(i));
    }
    s.ends.back() = static_cast<std::int64_t>(i) + 1;
  }
  return s;
}

// "0:3,3:7": positions A to B-1.
spans parse_spans(const std::string& text) {
  spans s;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string one = text.substr(begin, end - begin);
    const std::size_t colon = one.find(':');
    if (colon == std::string::npos) throw UsageError(fmt::format("--spans: '{}' is not A:B", one));
    const auto first = parse_list("--spans", one.substr(0, colon)), last = parse_list("--spans", one.substr(colon + 1));
    if (first.size() != 1 || last.size() != 1) throw UsageError(fmt::format("--spans: '{}' is not A:B", one));
    s.begins.push_back(first[0]);
    s.ends.push_back(last[0]);
    begin = end + 1;
  }
  return s;
}

int make_groups(const GroupCommand& flags) {
  flags.output.require_path();
  watch_interrupts();
  const result graph = result::load(flags.from);
  spans s = flags.spans.empty() ? word_spans(graph) : parse_spans(flags.spans);
  if (flags.rest == "drop") s.rest = ATTNGRAPH_REST_DROP;
  if (flags.rest == "own") s.rest = ATTNGRAPH_REST_OWN;
  if (flags.rest == "error") s.rest = ATTNGRAPH_REST_ERROR;
  write_graph(graph.group(s), flags.output, flags.from);
  return kSuccess;
}

template <class Flags>
void add_files(CLI::App& command, Flags& flags) {
  command.add_option("graph", flags.from, "A graph: " + suffixes(ATTNGRAPH_FORMAT_READ))->required()->type_name("FILE");
  command.add_option("output", flags.output.path, output_files())->required()->type_name("FILE");
  flags.output.add_format(command);
}

}  // namespace

void add_part(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("part", "A smaller graph: by heads, queries, keys, distance, tokens");
  const auto flags = std::make_shared<PartCommand>();
  add_files(*command, *flags);
  flags->part.add(*command);
  flags->budget.add(*command);
  command->callback([flags, &run] { run = [flags] { return make_part(*flags); }; });
}

void add_group(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("group", "The graph between words: sums over keys, means over queries");
  const auto flags = std::make_shared<GroupCommand>();
  add_files(*command, *flags);
  command->add_option("--spans", flags->spans, "Other spans than words: positions, like 0:3,3:7")->type_name("LIST");
  command
      ->add_option("--rest", flags->rest,
                   "Positions in no span: error (default with --spans), drop, own: a span each (default)")
      ->check(CLI::IsMember({"error", "drop", "own"}));
  command->callback([flags, &run] { run = [flags] { return make_groups(*flags); }; });
}

}  // namespace attngraph::cli
