// SPDX-License-Identifier: Apache-2.0
// The caller's hold on a running call: cancel it, watch it.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

#include "error.hpp"

namespace ag {

class Control {
 public:
  Control() = default;
  Control(std::function<bool()> cancelled, std::function<void(double)> progress)
      : cancelled_(std::move(cancelled)), progress_(std::move(progress)) {}

  // From the calling thread only. Asks and tells at most every 10 ms, so it is cheap to call often. Throws when
  // cancelled.
  void poll(double fraction) {
    fraction_ = fraction;
    if (!cancelled_ && !progress_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(10);
    if (progress_) progress_(fraction);
    if (cancelled_ && cancelled_()) stop_.store(true, std::memory_order_relaxed);
    if (stopped()) fail(Status::kCancelled, "cancelled at {:.0f} % of the work", 100 * fraction);
  }

  // For work in between that does not know how far the whole is: the fraction stays what it was.
  void poll() { poll(fraction_); }

  // From any thread: workers look here once per tile.
  bool stopped() const { return stop_.load(std::memory_order_relaxed); }

 private:
  std::function<bool()> cancelled_;
  std::function<void(double)> progress_;
  double fraction_ = 0;
  std::chrono::steady_clock::time_point next_{};
  std::atomic<bool> stop_{false};
};

}  // namespace ag
