// SPDX-License-Identifier: Apache-2.0
// The command `attngraph`. Exit status: 0 success, 1 failure, 2 usage. Errors are one line on standard error.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <attngraph/attngraph.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "command.hpp"
#include "text.hpp"

namespace {

using namespace attngraph::cli;

// Also when the memory for it is not there.
void print_error(std::string_view message) noexcept {
  try {
    say("attngraph: error: {}\n", sanitised(message));
  } catch (...) {
    std::fputs("attngraph: error: out of memory\n", stderr);
  }
}

// The parser of the subcommand that the command line names, or of the whole.
const CLI::App& chosen(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

// The parser complains about what is missing before what is unknown; a slip of the finger is the better news.
std::optional<std::string> culprit(const CLI::App& app) {
  const CLI::App& command = chosen(app);
  const auto unknown = command.remaining();
  if (&command == &app)
    return unknown.empty() ? std::nullopt : std::optional(fmt::format("there is no subcommand '{}'", unknown[0]));
  for (const std::string& argument : unknown)
    if (argument.size() > 1 && argument[0] == '-')
      return fmt::format("{} has no flag {}", command.get_name(), argument);
  return std::nullopt;
}

int usage_error(const CLI::App& app, const std::string& message) {
  print_error(message);
  const CLI::App& command = chosen(app);
  say("Try: {} --help\n", &command == &app ? "attngraph" : "attngraph " + command.get_name());
  return kUsage;
}

// Text waits in a buffer until here: only now is a full disk behind standard output known.
int flushed(int status) {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  print_error(fmt::format("standard output: {}", std::strerror(errno)));
  return kFailure;
}

int run(int argc, char** argv) {
  CLI::App app("Attention as a graph: every pair (query, key) whose softmax weight reaches a threshold.", "attngraph");
  app.set_version_flag("--version",
                       fmt::format("attngraph {} (ABI {})", attngraph::version(), attngraph::abi_version()));
  app.require_subcommand(1);
  app.footer("Exit status: 0 success, 1 failure (diff: the graphs differ), 2 usage.");
  Run command;
  for (const auto add : {add_extract, add_filter, add_plan, add_sweep, add_top, add_heads, add_stats, add_diff,
                         add_part, add_group, add_convert, add_view, add_doctor, add_bench})
    add(app, command);

  try {
    app.parse(argc, argv);
    return flushed(command());
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", chosen(app).help());
    return flushed(kSuccess);
  } catch (const CLI::Success& version) {
    fmt::print("{}\n", version.what());
    return flushed(kSuccess);
  } catch (const CLI::ParseError& e) {
    return usage_error(app, culprit(app).value_or(e.what()));
  } catch (const UsageError& e) {
    return usage_error(app, e.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    print_error("out of memory");
  } catch (const std::exception& e) {
    print_error(e.what());
  }
  return kFailure;
}
