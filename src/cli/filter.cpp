// SPDX-License-Identifier: Apache-2.0
// attngraph filter: from a ready attention matrix to edges.
#include <CLI/CLI.hpp>
#include <memory>

#include "command.hpp"
#include "pipeline.hpp"

namespace attngraph::cli {

void add_filter(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("filter", "Edges of a ready attention matrix");
  const auto request = std::make_shared<Request>();
  command
      ->add_option("file", request->input.files,
                   "[Nq, Nk], [H, Nq, Nk], [L, H, Nq, Nk] or [L, B, H, Nq, Nk] in .npy, .npz, .safetensors")
      ->required()
      ->expected(1)
      ->type_name("FILE");
  request->selection.add(*command, false);
  request->output.add_path(*command);
  request->output.add_format(*command);
  request->input.add_matrix(*command);
  request->input.add_part(*command);
  request->scores.add(*command, false);
  request->run.add(*command);
  command->add_flag("--explain", request->explain, "Print the plan and where each value came from; run nothing");
  command->callback([request, &run] {
    run = [request] {
      if (!request->explain) request->output.require_path();
      auto file = std::make_unique<OpenFile>(request->input.files[0]);
      return make_graph(*open_matrix(std::move(file), request->input, request->scores), *request);
    };
  });
}

}  // namespace attngraph::cli
