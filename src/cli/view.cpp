// SPDX-License-Identifier: Apache-2.0
// attngraph view: a graph as a page for the browser.
#include <fmt/format.h>
#include <spawn.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <filesystem>
#include <memory>

#include "command.hpp"
#include "flags.hpp"
#include "terminal.hpp"
#include "text.hpp"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace attngraph::cli {
namespace {

struct ViewFlags {
  std::string from, layers, heads;
  double threshold = 0;
  bool open = false, quiet = false;
  InputFlags words;
  OutputFlags output;
};

// Hand a file to the desktop's browser, which goes on when this command has ended.
void open_in_browser(const std::string& path) {
  std::string program = "xdg-open", file = std::filesystem::absolute(path).string();
  char* const arguments[] = {program.data(), file.data(), nullptr};
  pid_t child = 0;
  const int failure = posix_spawnp(&child, program.c_str(), nullptr, nullptr, arguments, environ);
  if (failure != 0)
    throw error(ATTNGRAPH_ERROR_IO,
                fmt::format("--open: xdg-open: {}; open {} in a browser yourself", std::strerror(failure), path));
}

int view(ViewFlags flags) {
  if (flags.output.path.empty())
    flags.output.path = std::filesystem::path(flags.from).filename().replace_extension(".html").string();
  if (flags.open && flags.output.path == "-") throw UsageError("--open needs a file; -o - is standard output");
  flags.output.format = "html";
  watch_interrupts();
  result graph = result::load(flags.from);
  part wanted{.threshold = flags.threshold};
  if (!flags.layers.empty()) wanted.layers = parse_list("--layers", flags.layers);
  if (!flags.heads.empty()) wanted.heads = parse_list("--heads", flags.heads);
  if (wanted.threshold > 0 || !wanted.layers.empty() || !wanted.heads.empty()) graph = graph.part(wanted);
  stop_if_interrupted();
  sink to = flags.output.open({flags.from});
  if (!flags.words.tokens.empty()) to.load_labels(ATTNGRAPH_KEYS, flags.words.tokens);
  if (!flags.words.query_tokens.empty()) to.load_labels(ATTNGRAPH_QUERIES, flags.words.query_tokens);
  graph.write(to);
  stop_if_interrupted();
  to.finish();
  if (flags.output.path == "-") return kSuccess;
  if (!flags.quiet)
    say("attngraph: wrote {}: {} edges of {} {}, {}\n", sanitised(flags.output.path), grouped(graph.edge_count()),
        graph.slice_count(), graph.slice_count() == 1 ? "head" : "heads",
        bytes(std::filesystem::file_size(flags.output.path)));
  if (flags.open) open_in_browser(flags.output.path);
  return kSuccess;
}

}  // namespace

void add_view(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("view", "A page to look at a graph in a browser; it needs no network");
  const auto flags = std::make_shared<ViewFlags>();
  command->add_option("graph", flags->from, "A graph: " + suffixes(ATTNGRAPH_FORMAT_READ))
      ->required()
      ->type_name("FILE");
  command
      ->add_option("-o,--output", flags->output.path,
                   "The page (default: the graph's name with .html, here), or - for standard output")
      ->type_name("FILE");
  command->add_flag("--open", flags->open, "Open it in the browser");
  command->add_option("-t,--threshold", flags->threshold, "Only edges that weigh at least this")
      ->check(CLI::Range(0.0, 1e300))
      ->type_name("T");
  command->add_option("--layers", flags->layers, "Only these, like 0-3,7")->type_name("LIST");
  command->add_option("--heads", flags->heads, "Only these, like 0,2")->type_name("LIST");
  flags->words.add_words(*command);
  command->add_flag("--quiet", flags->quiet, "No summary");
  command->callback([flags, &run] { run = [flags] { return view(*flags); }; });
}

}  // namespace attngraph::cli
