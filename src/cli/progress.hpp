// SPDX-License-Identifier: Apache-2.0
// A bar on standard error while long work runs; nothing when that is not a terminal.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace attngraph::cli {

class Progress {
 public:
  Progress(bool wanted, std::size_t parts);
  ~Progress();  // wipes the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void begin(std::size_t part, std::string label);
  void update(double fraction);  // of the current part

 private:
  using Clock = std::chrono::steady_clock;
  bool enabled_;
  bool drawn_ = false;
  std::size_t parts_, part_ = 0;
  std::string label_;
  Clock::time_point start_ = Clock::now(), next_;
};

}  // namespace attngraph::cli
