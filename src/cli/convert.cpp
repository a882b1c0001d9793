// SPDX-License-Identifier: Apache-2.0
// attngraph convert: a graph in another format.
#include <CLI/CLI.hpp>
#include <memory>

#include "command.hpp"
#include "flags.hpp"
#include "terminal.hpp"

namespace attngraph::cli {
namespace {

struct ConvertFlags {
  std::string from;
  InputFlags words;
  OutputFlags output;
};

int convert(const ConvertFlags& flags) {
  flags.output.require_path();
  watch_interrupts();
  const result graph = result::load(flags.from);
  stop_if_interrupted();
  sink to = flags.output.open({flags.from});
  if (!flags.words.tokens.empty()) to.load_labels(ATTNGRAPH_KEYS, flags.words.tokens);
  if (!flags.words.query_tokens.empty()) to.load_labels(ATTNGRAPH_QUERIES, flags.words.query_tokens);
  graph.write(to);
  stop_if_interrupted();
  to.finish();
  return kSuccess;
}

}  // namespace

void add_convert(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("convert", "Write a graph in another format");
  const auto flags = std::make_shared<ConvertFlags>();
  command->add_option("graph", flags->from, "A graph: " + suffixes(ATTNGRAPH_FORMAT_READ))
      ->required()
      ->type_name("FILE");
  command->add_option("output", flags->output.path, output_files())->required()->type_name("FILE");
  flags->output.add_format(*command);
  flags->words.add_words(*command);
  command->callback([flags, &run] { run = [flags] { return convert(*flags); }; });
}

}  // namespace attngraph::cli
