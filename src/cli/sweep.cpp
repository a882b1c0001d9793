// SPDX-License-Identifier: Apache-2.0
// attngraph sweep: what each of several thresholds would keep, in one pass and without keeping an edge.
#include <fmt/format.h>
#include <strings.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <memory>

#include "command.hpp"
#include "graph_input.hpp"
#include "pipeline.hpp"
#include "terminal.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct SweepFlags : GraphFlags {
  std::string thresholds = "0.01,0.02,0.05,0.1,0.2,0.5";
  bool json = false;
};

// The file as tensors, or nothing and the reason when its bytes are no tensor file's: then it may be a table of edges.
std::unique_ptr<OpenFile> open_tensors(const std::string& path, std::optional<error>& reason) {
  try {
    return std::make_unique<OpenFile>(path);
  } catch (const error& e) {
    if (e.status() != ATTNGRAPH_ERROR_FORMAT) throw;
    reason = e;
    return nullptr;
  }
}

// Whether the name says that the file is a graph of text, which begins like no tensor file.
bool named_as_table(const std::string& path) {
  for (const graph_format& format : graph_formats(ATTNGRAPH_FORMAT_READ | ATTNGRAPH_FORMAT_STREAM)) {
    const std::size_t length = std::strlen(format.suffix);
    if (path.size() >= length && ::strcasecmp(path.c_str() + path.size() - length, format.suffix) == 0) return true;
  }
  return false;
}

result load_graph(const std::string& path, const std::optional<error>& not_tensors) {
  try {
    return result::load(path);
  } catch (const error&) {
    // Which of two complaints is the right one only the name can tell.
    if (not_tensors && !named_as_table(path)) throw error(*not_tensors);
    throw;
  }
}

std::vector<sweep_row> sweep_graph(const result& graph, const SweepFlags& flags,
                                   const std::vector<double>& thresholds) {
  const auto own = graph.metadata("threshold");
  const double least = *std::min_element(thresholds.begin(), thresholds.end());
  if (own && !flags.run.quiet && least < std::strtod(std::string(*own).c_str(), nullptr))
    say("attngraph: note: the graph was made with threshold {}; below it, its own edges are counted\n",
        sanitised(*own));
  return graph.sweep(thresholds);
}

std::vector<sweep_row> sweep_source(Source& source, const SweepFlags& flags, const std::vector<double>& thresholds) {
  const double least = *std::min_element(thresholds.begin(), thresholds.end());
  options o = flags.base();
  o.threshold(least).allow_dense(least == 0);  // counting every pair of Q/K keeps none of them
  context c(flags.run.device);
  watch_interrupts();
  sink to = sink::sweep(thresholds);
  feed(source, c, flags, o, to);
  to.finish();
  return to.sweep_rows();
}

int sweep(const SweepFlags& flags) {
  const std::vector<double> thresholds = parse_numbers("--thresholds", flags.thresholds);
  const std::string& path = flags.input.files[0];
  std::optional<error> not_tensors;
  std::unique_ptr<OpenFile> file = open_tensors(path, not_tensors);
  std::vector<sweep_row> rows;
  if (file == nullptr || holds_graph(file->file)) {
    file.reset();
    rows = sweep_graph(load_graph(path, not_tensors), flags, thresholds);
  } else if (holds_qk(file->file) || !flags.input.q.empty()) {
    std::vector<std::unique_ptr<OpenFile>> files;
    files.push_back(std::move(file));
    rows = sweep_source(*open_qk(std::move(files), flags.input, flags.scores), flags, thresholds);
  } else {
    rows = sweep_source(*open_matrix(std::move(file), flags.input, flags.scores), flags, thresholds);
  }
  if (flags.json)
    print_json(sweep_json(rows));
  else
    print_sweep(rows);
  return kSuccess;
}

}  // namespace

void add_sweep(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("sweep", "Edges, kept mass and nodes for each of several thresholds");
  const auto flags = std::make_shared<SweepFlags>();
  command->add_option("file", flags->input.files, "Queries and keys, a matrix, or a graph")
      ->required()
      ->expected(1)
      ->type_name("FILE");
  command->add_option("--thresholds", flags->thresholds, "Thresholds (default: " + flags->thresholds + ")")
      ->type_name("LIST");
  command->add_flag("--json", flags->json, "Print JSON");
  flags->input.add_qk(*command);
  flags->input.add_matrix(*command);
  flags->input.add_part(*command);
  flags->scores.add(*command, true);
  flags->run.add(*command);
  command->callback([flags, &run] { run = [flags] { return sweep(*flags); }; });
}

}  // namespace attngraph::cli
