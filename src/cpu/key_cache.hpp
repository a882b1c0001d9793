// SPDX-License-Identifier: Apache-2.0
// The keys of a head, scanned once and packed once for all the rows that read them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "../core/ordered_tasks.hpp"
#include "aligned_buffer.hpp"
#include "job.hpp"
#include "kernels.hpp"
#include "scan.hpp"

namespace ag::cpu {

// Writes the keys [strip * kStripKeys, ...) of a group, panel after panel; keys that do not exist or are bad are 0.
template <class T>
void pack_strip(const Job& job, const Group& group, const HeadFacts& facts, std::int64_t strip, T* out,
                std::vector<T>& rows);

// Packed strips of one group, made when first asked for.
template <class T>
class PackedKeys {
 public:
  void reset(std::int64_t strips, std::int64_t strip_size);
  // Any thread; the first one packs, others wait for it.
  const T* strip(std::int64_t s, const Job& job, const Group& group, const HeadFacts& facts, std::vector<T>& rows);

 private:
  enum State : int { kEmpty, kPacking, kReady };
  AlignedBuffer<T> buffer_;
  std::int64_t strip_size_ = 0;
  std::int64_t strips_ = 0;
  std::unique_ptr<std::atomic<int>[]> states_;
};

// A group's keys while tasks use them.
struct KeySlot {
  const Group* group = nullptr;
  HeadFacts facts;
  PackedKeys<float> f32;
  PackedKeys<double> f64;

  template <class T>
  PackedKeys<T>& packed() {
    if constexpr (sizeof(T) == 4) {
      return f32;
    } else {
      return f64;
    }
  }
};

// One or two groups at a time, so that the next head can begin while the last rows of this one are finished.
class KeyCache {
 public:
  KeyCache(const Job& job, const std::vector<Group>& groups, std::int64_t tasks_per_head);

  // Waits until the group's slot is free and scanned. Every task of a group acquires and releases once.
  KeySlot& acquire(std::size_t group, const Poll& poll);
  void release(std::size_t group);

 private:
  struct Place {
    KeySlot slot;
    std::size_t group = static_cast<std::size_t>(-1);
    std::int64_t remaining = 0;  // tasks of the group not released yet
    // The group that takes the place next. Groups take turns in order: a later one, come first, would hold the place
    // while its last tasks wait for the rows of an earlier one to be committed, and those wait for the place.
    std::size_t turn = 0;
    bool ready = false;
  };

  const Job& job_;
  const std::vector<Group>& groups_;
  std::int64_t tasks_per_head_;
  std::vector<Place> places_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace ag::cpu
