// SPDX-License-Identifier: Apache-2.0
// The command `attngraph`. Exit status: 0 success, 1 failure, 2 usage. Errors are one line on standard error.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <attngraph/attngraph.hpp>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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

// How many letters are put in, left out, replaced or exchanged with their neighbour between two words.
std::size_t slips(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> least(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        least[i][j] = i + j;
        continue;
      }
      least[i][j] = std::min({least[i - 1][j] + 1, least[i][j - 1] + 1, least[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        least[i][j] = std::min(least[i][j], least[i - 2][j - 2] + 1);
    }
  }
  return least[a.size()][b.size()];
}

// "; is 'extract' meant?" where a name is no more than two slips of the finger away, or goes on where the word ends.
std::string suggestion(std::string given, const std::vector<std::string>& names) {
  if (given.size() > 40) return "";
  given = given.substr(0, given.find('='));
  std::transform(given.begin(), given.end(), given.begin(), [](unsigned char c) { return std::tolower(c); });
  std::string best;
  std::size_t fewest = 3;
  for (const std::string& name : names) {
    const std::size_t count = given.size() > 3 && name.starts_with(given) ? 0 : slips(given, name);
    if (count < std::min(fewest, given.size() / 2)) {
      fewest = count;
      best = name;
    }
  }
  return best.empty() ? "" : fmt::format("; is {} meant?", best);
}

// The parser complains about what is missing before what is unknown; a slip of the finger is the better news.
std::optional<std::string> culprit(const CLI::App& app) {
  const CLI::App& command = chosen(app);
  const auto unknown = command.remaining();
  if (&command == &app) {
    if (unknown.empty()) return std::nullopt;
    std::vector<std::string> names;
    for (const CLI::App* one : app.get_subcommands(nullptr)) names.push_back(one->get_name());
    return fmt::format("there is no subcommand '{}'{}", unknown[0], suggestion(unknown[0], names));
  }
  for (const std::string& argument : unknown) {
    if (argument.size() < 2 || argument[0] != '-' || argument == "--") continue;
    std::vector<std::string> names;
    for (const CLI::Option* one : command.get_options())
      for (const std::string& name : one->get_lnames()) names.push_back("--" + name);
    return fmt::format("{} has no flag {}{}", command.get_name(), argument, suggestion(argument, names));
  }
  return std::nullopt;
}

// What the parser says of a value or a number of values, in words that name the flag first.
std::string complaint(const CLI::App& app, const CLI::ParseError& e) {
  constexpr std::string_view kUnread = "Could not convert: ";
  const std::string text = e.what();
  if (dynamic_cast<const CLI::ConversionError*>(&e) != nullptr && text.starts_with(kUnread)) {
    const std::size_t equals = text.find(" = ");
    if (equals != std::string::npos)
      return fmt::format("{}: '{}' is not a number that it takes", text.substr(kUnread.size(), equals - kUnread.size()),
                         text.substr(equals + 3));
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&e) != nullptr)
    for (const CLI::Option* one : chosen(app).get_options())
      if (!one->get_positional() && one->get_items_expected_max() == 1 && one->count() > 1)
        return fmt::format("{} is given {} times; give it once", one->get_name(), one->count());
  return text;
}

// An empty value is a variable of the shell that was never set: it would count as a flag that was not given. Only a
// tensor may be called so, as that of an .npy is.
void refuse_empty_values(const CLI::App& command) {
  for (const CLI::Option* one : command.get_options()) {
    if (one->check_lname("name") || one->check_lname("q") || one->check_lname("k")) continue;
    const auto& values = one->results();
    if (one->get_items_expected_max() > 0 && std::find(values.begin(), values.end(), "") != values.end())
      throw UsageError(fmt::format("{}: the value is empty; leave the flag out, or give one", one->get_name()));
  }
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

// The reader of standard output has gone (`attngraph convert g.npz - | head`), which the library reports as an error. A
// filter ends by the signal then, without a word, unless whoever started it ignores that.
void end_as_a_filter(const attngraph::error& e) {
  if (e.status() != ATTNGRAPH_ERROR_IO || !std::string_view(e.what()).starts_with("standard output")) return;
  pollfd out{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0) std::raise(SIGPIPE);
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
    refuse_empty_values(chosen(app));
    return flushed(command());
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", chosen(app).help());
    return flushed(kSuccess);
  } catch (const CLI::Success& version) {
    fmt::print("{}\n", version.what());
    return flushed(kSuccess);
  } catch (const CLI::ParseError& e) {
    return usage_error(app, culprit(app).value_or(complaint(app, e)));
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
  } catch (const attngraph::error& e) {
    end_as_a_filter(e);
    print_error(e.what());
  } catch (const std::exception& e) {
    print_error(e.what());
  }
  return kFailure;
}
