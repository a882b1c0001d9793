// SPDX-License-Identifier: Apache-2.0
// attngraph plan: a problem cut into tasks that any launcher can run.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "command.hpp"
#include "graph_input.hpp"
#include "pipeline.hpp"
#include "table.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct PlanFlags : GraphFlags {
  std::int64_t pairs_per_task = std::int64_t{1} << 31;
  bool json = false;
};

struct LayerTask {
  std::vector<std::int64_t> heads;
  task part;
};

// "0-3,7": as --heads takes it.
std::string ranges(const std::vector<std::int64_t>& values) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < values.size();) {
    std::size_t last = i;
    while (last + 1 < values.size() && values[last + 1] == values[last] + 1) ++last;
    parts.push_back(last == i ? fmt::format("{}", values[i]) : fmt::format("{}-{}", values[i], values[last]));
    i = last + 1;
  }
  return join(parts, ",");
}

std::vector<LayerTask> tasks_of(const QkSource& source, const PlanFlags& flags) {
  const options base = flags.base();
  const std::vector<std::int64_t> chosen = flags.input.head_list();
  std::vector<LayerTask> all;
  for (std::size_t i = 0; i < source.layer_count(); ++i) {
    for (const task& part : source.tasks(i, base, flags.pairs_per_task)) {
      LayerTask one{{}, part};
      for (std::int64_t n = part.head_begin; n < part.head_end; ++n)
        one.heads.push_back(chosen.empty() ? n : chosen[static_cast<std::size_t>(n)]);
      all.push_back(std::move(one));
    }
  }
  return all;
}

void print_plan_json(const std::vector<LayerTask>& tasks, const PlanFlags& flags, bool named) {
  Json list = Json::array();
  for (const LayerTask& t : tasks) {
    Json arguments = Json::array();
    if (!named) arguments = {"--layers", fmt::format("{}", t.part.layer)};
    for (const std::string& word : {std::string("--heads"), ranges(t.heads), std::string("--query-range"),
                                    fmt::format("{}:{}", t.part.query_begin, t.part.query_end)})
      arguments.push_back(word);
    list.push_back({{"layer", t.part.layer},
                    {"heads", t.heads},
                    {"query_begin", t.part.query_begin},
                    {"query_end", t.part.query_end},
                    {"pairs", t.part.pairs},
                    {"arguments", std::move(arguments)}});
  }
  print_json({{"version", version()}, {"pairs_per_task", flags.pairs_per_task}, {"tasks", std::move(list)}});
}

void print_plan_table(const std::vector<LayerTask>& tasks) {
  Table table({"task", "layer", "heads", "queries", "pairs"});
  std::int64_t pairs = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const LayerTask& t = tasks[i];
    table.row({fmt::format("{}", i), fmt::format("{}", t.part.layer), ranges(t.heads),
               fmt::format("{}:{}", t.part.query_begin, t.part.query_end), grouped(t.part.pairs)});
    pairs += t.part.pairs;
  }
  table.row({"all", "", "", "", grouped(pairs)});
  fmt::print("{}", table.text());
}

}  // namespace

void add_plan(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("plan", "Cut a problem into tasks that any launcher can run");
  const auto flags = std::make_shared<PlanFlags>();
  command->add_option("files", flags->input.files, "A file with q.<layer> and k.<layer>, or two files: Q and K")
      ->required()
      ->expected(1, 2)
      ->type_name("FILE");
  command
      ->add_option("--pairs-per-task", flags->pairs_per_task,
                   "Pairs (query, key) of a task, about; the default is some three seconds of one core")
      ->check(CLI::PositiveNumber)
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print JSON, with the arguments that make extract do each task");
  flags->input.add_qk(*command);
  flags->input.add_part(*command);
  flags->scores.add(*command, true);
  command->callback([flags, &run] {
    run = [flags] {
      const InputFlags& input = flags->input;
      std::vector<std::unique_ptr<OpenFile>> files;
      for (const std::string& path : input.files) files.push_back(std::make_unique<OpenFile>(path));
      const auto source = open_qk(std::move(files), input, flags->scores);
      const std::vector<LayerTask> tasks = tasks_of(*source, *flags);
      if (flags->json) {
        print_plan_json(tasks, *flags, input.files.size() == 2 || !input.q.empty());
      } else {
        print_plan_table(tasks);
      }
      return kSuccess;
    };
  });
}

}  // namespace attngraph::cli
