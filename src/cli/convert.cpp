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
  std::string from, tokens;
  OutputFlags output;
};

int convert(const ConvertFlags& flags) {
  flags.output.require_path();
  watch_interrupts();
  const result graph = result::load(flags.from);
  stop_if_interrupted();
  sink to = flags.output.open({flags.from});
  if (!flags.tokens.empty()) to.load_tokens(flags.tokens);
  graph.write(to);
  stop_if_interrupted();
  to.finish();
  return kSuccess;
}

}  // namespace

void add_convert(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("convert", "Write a graph in another format");
  const auto flags = std::make_shared<ConvertFlags>();
  command->add_option("graph", flags->from, "A graph: .npz, .safetensors, .csv or .jsonl")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("output", flags->output.path,
                   ".csv .jsonl .npz .safetensors .graphml .dot .html, or - for standard output")
      ->required()
      ->type_name("FILE");
  flags->output.add_format(*command);
  command->add_option("--tokens", flags->tokens, "Words: a JSON list or a text with one token a line")
      ->type_name("FILE");
  command->callback([flags, &run] { run = [flags] { return convert(*flags); }; });
}

}  // namespace attngraph::cli
