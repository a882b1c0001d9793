// SPDX-License-Identifier: Apache-2.0
// attngraph extract: from queries and keys to edges.
#include <CLI/CLI.hpp>
#include <memory>

#include "command.hpp"
#include "pipeline.hpp"

namespace attngraph::cli {

void add_extract(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("extract", "Edges from queries and keys: scores, softmax and threshold");
  const auto flags = std::make_shared<GraphFlags>();
  command->add_option("files", flags->input.files, "A file with q.<layer> and k.<layer>, or two files: Q and K")
      ->required()
      ->expected(1, 2)
      ->type_name("FILE");
  flags->selection.add(*command, true);
  flags->output.add_path(*command);
  flags->output.add_format(*command);
  flags->input.add_qk(*command);
  flags->input.add_part(*command);
  flags->scores.add(*command, true);
  flags->run.add(*command);
  command->add_flag("--explain", flags->explain, "Print the plan and where each value came from; run nothing");
  command->callback([flags, &run] {
    run = [flags] {
      if (!flags->explain) flags->output.require_path();
      if (flags->selection.keeps_all() && !flags->selection.allow_dense)
        throw error(ATTNGRAPH_ERROR_ARGUMENT,
                    "--threshold is 0, so every allowed pair would be an edge; give one above 0, --top-k or --mass, or "
                    "--allow-dense");
      std::vector<std::unique_ptr<OpenFile>> files;
      for (const std::string& path : flags->input.files) files.push_back(std::make_unique<OpenFile>(path));
      return make_graph(*open_qk(std::move(files), flags->input, flags->scores), *flags);
    };
  });
}

}  // namespace attngraph::cli
