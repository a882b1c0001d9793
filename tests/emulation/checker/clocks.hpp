// SPDX-License-Identifier: Apache-2.0
// Which accesses of a block's threads come before which: a clock for each thread, and for each thread the newest clock
// of every other one that a barrier has shown it. Threads that left a barrier together share what they know.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace ag::emu {

class Clocks {
 public:
  void begin(std::uint32_t threads) {
    own_.assign(threads, 1);
    fenced_.assign(threads, 0);
    const auto nothing = std::make_shared<Seen>(threads, 0);
    seen_.assign(threads, nothing);
  }
  std::uint32_t own(std::uint32_t thread) const { return own_[thread]; }
  bool sees(std::uint32_t thread, std::uint32_t other, std::uint32_t clock) const {
    return (*seen_[thread])[other] >= clock;
  }
  // All that each has done before is before all that any does from now on.
  void join(std::span<const std::uint32_t> threads) {
    const auto together = std::make_shared<Seen>(*seen_[threads.front()]);
    const Seen* last = seen_[threads.front()].get();
    for (const std::uint32_t thread : threads) {
      if (seen_[thread].get() == last) continue;
      last = seen_[thread].get();
      for (std::size_t i = 0; i < together->size(); ++i) (*together)[i] = std::max((*together)[i], (*last)[i]);
    }
    for (const std::uint32_t thread : threads) (*together)[thread] = own_[thread]++;
    for (const std::uint32_t thread : threads) seen_[thread] = together;
  }

  // An mbarrier: what a thread has done and seen is gathered, and shown to whoever waits for it.
  using Seen = std::vector<std::uint32_t>;
  void release(std::uint32_t thread, Seen& into) {
    into.resize(own_.size(), 0);
    const Seen& mine = *seen_[thread];
    for (std::size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], mine[i]);
    into[thread] = own_[thread]++;
  }
  void acquire(std::uint32_t thread, const Seen& from) {
    const auto mine = std::make_shared<Seen>(*seen_[thread]);
    for (std::size_t i = 0; i < from.size(); ++i) (*mine)[i] = std::max((*mine)[i], from[i]);
    seen_[thread] = mine;
  }

  // What the thread has written until its last fence.proxy.async.
  void fence(std::uint32_t thread) { fenced_[thread] = own_[thread]++; }
  bool is_fenced(std::uint32_t thread, std::uint32_t clock) const { return fenced_[thread] >= clock; }

 private:
  std::vector<std::uint32_t> own_;
  std::vector<std::uint32_t> fenced_;
  std::vector<std::shared_ptr<Seen>> seen_;
};

}  // namespace ag::emu
