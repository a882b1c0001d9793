// SPDX-License-Identifier: Apache-2.0
#include "progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "terminal.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {
constexpr std::chrono::milliseconds kPatience{300};  // short work draws no bar
constexpr std::chrono::milliseconds kInterval{100};
constexpr int kBarColumns = 30;
}  // namespace

Progress::Progress(bool wanted, std::size_t parts)
    : enabled_(wanted && is_terminal(stderr)), parts_(std::max<std::size_t>(parts, 1)), next_(start_ + kPatience) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::begin(std::size_t part, std::string label) {
  part_ = part;
  label_ = sanitised(label);
}

void Progress::update(double fraction) {
  const auto now = Clock::now();
  if (!enabled_ || now < next_) return;
  next_ = now + kInterval;
  drawn_ = true;
  const double done = (static_cast<double>(part_) + std::clamp(fraction, 0.0, 1.0)) / static_cast<double>(parts_);
  const int filled = static_cast<int>(done * kBarColumns);
  std::string bar;
  for (int i = 0; i < kBarColumns; ++i) bar += i < filled ? "━" : "╌";
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  say("\r{} {} {:3.0f} %  {}\033[K", label_, bar, 100 * done, seconds(elapsed));
  std::fflush(stderr);
}

}  // namespace attngraph::cli
