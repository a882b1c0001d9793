// SPDX-License-Identifier: Apache-2.0
// Who runs next.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "emu.hpp"

namespace ag::emu {

// splitmix64: every seed gives a different, well mixed sequence.
class Random {
 public:
  explicit Random(std::uint64_t seed = 0) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) {
    return static_cast<std::uint64_t>((__extension__ static_cast<unsigned __int128>(next()) * n) >> 64);
  }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1p-53 < p; }

 private:
  std::uint64_t state_;
};

// The threads that could run. T has a field `rank`: the priority orders run the highest.
template <class T>
class RunQueue {
 public:
  void begin(Schedule schedule, std::size_t capacity) {
    schedule_ = schedule;
    entries_.clear();
    head_ = size_ = 0;
    if (is_ring()) {
      std::size_t n = 1;
      while (n < capacity) n *= 2;
      entries_.resize(n);
    } else {
      entries_.reserve(capacity);
    }
  }

  bool empty() const { return size_ == 0; }

  void push(T* thread) {
    ++size_;
    if (is_ring()) {
      entries_[(head_ + size_ - 1) & (entries_.size() - 1)] = {0, thread};
      return;
    }
    entries_.push_back({thread->rank, thread});
    if (schedule_ != Schedule::kRandom) std::push_heap(entries_.begin(), entries_.end());
  }

  T* pop(Random& random) {
    T* thread = nullptr;
    if (is_ring()) {
      thread = entries_[head_].second;
      head_ = (head_ + 1) & (entries_.size() - 1);
    } else {
      if (schedule_ == Schedule::kRandom) {
        std::swap(entries_[random.below(size_)], entries_.back());
      } else {
        std::pop_heap(entries_.begin(), entries_.end());
      }
      thread = entries_.back().second;
      entries_.pop_back();
    }
    --size_;
    return thread;
  }

 private:
  bool is_ring() const { return schedule_ == Schedule::kForward || schedule_ == Schedule::kReverse; }

  Schedule schedule_ = Schedule::kForward;
  std::vector<std::pair<std::uint64_t, T*>> entries_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace ag::emu
