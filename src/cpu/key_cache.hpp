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
#include "key_turns.hpp"
#include "scan.hpp"
#include "strip_memory.hpp"

namespace ag::cpu {

// Writes the panels of a strip that hold its keys [from, count), one after the other; keys that are bad or do not exist
// are 0. How many keys the panels have room for.
template <class T>
std::int64_t pack_strip(const Job& job, const Group& group, const KeyFacts& facts, Product product, std::int64_t strip,
                        std::int64_t from, std::int64_t count, T* out, std::vector<T>& rows);

// Packed strips of one group, made when first asked for: those of a call's keys in one buffer, those of kept keys where
// they stay while keys are added.
template <class T>
class PackedKeys {
 public:
  // Empty strips, in one buffer that is kept from group to group.
  void reset(std::int64_t strips, std::int64_t strip_size);
  using Form = decltype(Kernels<T>::score_strip);  // tells the layouts of products apart
  // Of kept keys: more strips. Those that are there stay, unless they are of another form.
  void grow(std::int64_t strips, std::int64_t strip_size, Form form);
  // What is packed of keys from `count` on is void.
  void truncate(std::int64_t count);
  // Gives back the memory of strips before that of `key`.
  void drop_before(std::int64_t key);
  std::size_t bytes() const { return own_.bytes(); }  // of kept keys
  std::uint64_t packed_bytes() const { return packed_bytes_.load(std::memory_order_relaxed); }
  // Packed as far as there are keys. Any thread; the first one packs, others wait for it.
  const T* strip(std::int64_t s, const Job& job, const Group& group, const KeyFacts& facts, Product product,
                 std::vector<T>& rows);

 private:
  static constexpr int kPacking = -1;

  void make_room();

  AlignedBuffer<T> buffer_;
  StripMemory<T> own_;  // of kept keys
  Form form_ = nullptr;
  std::atomic<std::uint64_t> packed_bytes_{0};
  std::atomic<bool> has_room_{false};
  std::mutex room_mutex_;
  std::int64_t strip_size_ = 0;
  std::int64_t strips_ = 0;
  std::int64_t most_strips_ = 0;                // that there are states for
  std::unique_ptr<std::atomic<int>[]> states_;  // keys packed, or kPacking
};

// A group's keys while tasks use them, in as many forms as its rows need.
struct KeySlot {
  const Group* group = nullptr;
  KeyFacts facts;
  PackedKeys<float> f32;
  PackedKeys<float> pairs;  // for the plan's product
  PackedKeys<double> f64;
  std::size_t bad_keys_told = 0;  // of kept keys: those that an earlier report counted

  template <class T>
  PackedKeys<T>& packed(Product product) {
    if constexpr (sizeof(T) == 8) {
      return f64;
    } else {
      return product == Product::kFloat ? f32 : pairs;
    }
  }
};

// Some groups at a time (Plan::key_places), so that the next heads can begin while the last rows of this one are
// finished.
class KeyCache {
 public:
  KeyCache(const Job& job, const std::vector<Group>& groups);

  // Waits until the group's slot is free and scanned. Every task of a group acquires and releases once.
  KeySlot& acquire(std::size_t group, const Poll& poll);
  void release(std::size_t group);
  // After a call that went well: keys that were counted as not finite are not counted again.
  void told();

 private:
  void prepare(std::size_t group, KeySlot& slot, const Poll& poll);

  const Job& job_;
  const std::vector<Group>& groups_;
  std::vector<KeySlot*> kept_;  // of all groups, where keys are kept: they are ready
  std::vector<KeySlot> slots_;  // by place, where they are not
  std::mutex mutex_;            // of turns_
  KeyTurns turns_;
  std::condition_variable changed_;
};

}  // namespace ag::cpu
