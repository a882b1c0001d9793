// SPDX-License-Identifier: Apache-2.0
// The subcommands. Each file adds one to the parser; parsing decides which runs, main() runs it and reports errors.
#pragma once

#include <functional>
#include <stdexcept>

namespace CLI {
class App;
}

namespace attngraph::cli {

constexpr int kSuccess = 0;
constexpr int kFailure = 1;
constexpr int kUsage = 2;

// A command line that cannot be meant; everything found later is an attngraph::error.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

using Run = std::function<int()>;  // returns the exit status

void add_extract(CLI::App& app, Run& run);
void add_filter(CLI::App& app, Run& run);
void add_plan(CLI::App& app, Run& run);
void add_sweep(CLI::App& app, Run& run);
void add_top(CLI::App& app, Run& run);
void add_heads(CLI::App& app, Run& run);
void add_part(CLI::App& app, Run& run);
void add_group(CLI::App& app, Run& run);
void add_stats(CLI::App& app, Run& run);
void add_diff(CLI::App& app, Run& run);
void add_convert(CLI::App& app, Run& run);
void add_view(CLI::App& app, Run& run);
void add_doctor(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);

}  // namespace attngraph::cli
