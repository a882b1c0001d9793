// SPDX-License-Identifier: Apache-2.0
// attngraph extract: from queries and keys to edges.
#include <CLI/CLI.hpp>
#include <memory>

#include "command.hpp"
#include "pipeline.hpp"

namespace attngraph::cli {

void add_extract(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("extract", "Edges from queries and keys: scores, softmax and threshold");
  const auto request = std::make_shared<Request>();
  command->add_option("files", request->input.files, "A file with q.<layer> and k.<layer>, or two files: Q and K")
      ->required()
      ->expected(1, 2)
      ->type_name("FILE");
  request->selection.add(*command, true);
  request->output.add_path(*command);
  request->output.add_format(*command);
  request->input.add_qk(*command);
  request->input.add_part(*command);
  request->scores.add(*command, true);
  request->run.add(*command);
  command->add_flag("--explain", request->explain, "Print the plan and where each value came from; run nothing");
  command->callback([request, &run] {
    run = [request] {
      if (!request->explain) request->output.require_path();
      if (request->selection.keeps_all() && !request->selection.allow_dense)
        throw error(ATTNGRAPH_ERROR_ARGUMENT,
                    "--threshold is 0, so every allowed pair would be an edge; give one above 0, --top-k or --mass, or "
                    "--allow-dense");
      std::vector<std::unique_ptr<OpenFile>> files;
      for (const std::string& path : request->input.files) files.push_back(std::make_unique<OpenFile>(path));
      return make_graph(*open_qk(std::move(files), request->input, request->scores), *request);
    };
  });
}

}  // namespace attngraph::cli
