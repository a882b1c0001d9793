// SPDX-License-Identifier: Apache-2.0
// attngraph filter: from a ready attention matrix to edges.
#include <CLI/CLI.hpp>
#include <memory>

#include "command.hpp"
#include "pipeline.hpp"

namespace attngraph::cli {

void add_filter(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("filter", "Edges of a ready attention matrix");
  const auto flags = std::make_shared<GraphFlags>();
  command
      ->add_option("file", flags->input.files,
                   "[Nq, Nk], [H, Nq, Nk], [L, H, Nq, Nk] or [L, B, H, Nq, Nk] in .npy, .npz, .safetensors")
      ->required()
      ->expected(1)
      ->type_name("FILE");
  flags->selection.add(*command, false);
  flags->output.add_path(*command);
  flags->output.add_format(*command);
  flags->input.add_matrix(*command);
  flags->input.add_part(*command);
  flags->scores.add(*command, false);
  flags->run.add(*command);
  command->add_flag("--explain", flags->explain, "Print the plan and where each value came from; run nothing");
  command->callback([flags, &run] {
    run = [flags] {
      if (!flags->explain) flags->output.require_path();
      auto file = std::make_unique<OpenFile>(flags->input.files[0]);
      return make_graph(*open_matrix(std::move(file), flags->input, flags->scores), *flags);
    };
  });
}

}  // namespace attngraph::cli
