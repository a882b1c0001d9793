// SPDX-License-Identifier: Apache-2.0
// Where the packed strips of kept keys lie: never moved while keys are added. A few strips have memory of their own
// each, so that a short sequence takes little; many share blocks of whole pages of 2 MiB, since a step reads them all
// once, and the processor fetches nothing ahead beyond the end of a page.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "../core/huge_pages.hpp"
#include "aligned_buffer.hpp"

namespace ag::cpu {

template <class T>
class StripMemory {
 public:
  // Strips [0, strips) of `size` values each; places of another size are given up. Like what follows, up to at(): one
  // call at a time, and nobody reads meanwhile.
  void grow(std::int64_t strips, std::int64_t size) {
    if (size != size_) set_size(size);
    strips_ = strips;
    places_.resize(idx(strips), nullptr);
    singles_.resize(idx(strips));
    blocks_.resize(idx((strips + block_strips_ - 1) / block_strips_));
  }
  // Gives back all memory.
  void clear() { set_size(0); }
  // Gives back the memory of strips from `strip` on, and that of those before it: of blocks, when no strip is left.
  void truncate(std::int64_t strip) {
    for (std::int64_t s = strip; s < strips_; ++s) give_back(s);
    if (block_strips_ == 0) return;
    for (std::size_t b = idx((strip + block_strips_ - 1) / block_strips_); b < blocks_.size(); ++b) blocks_[b] = {};
  }
  void drop_before(std::int64_t strip) {
    for (; first_ < std::min(strip, strips_); ++first_) {
      give_back(first_);
      if ((first_ + 1) % block_strips_ == 0) blocks_[idx(first_ / block_strips_)] = {};
    }
  }
  std::int64_t dropped() const { return first_; }
  std::size_t bytes() const {
    std::int64_t values = 0;
    for (const auto& single : singles_) values += single.size();
    for (const auto& block : blocks_) values += block.size();
    return idx(values) * sizeof(T);
  }

  // The memory of a strip, made now if there was none. Any thread, one at a time for each strip.
  T* make(std::int64_t strip) {
    T*& place = places_[idx(strip)];
    if (place != nullptr) return place;
    const std::lock_guard lock(mutex_);
    auto& block = blocks_[idx(strip / block_strips_)];
    if (block.size() == 0 && strips_ - first_ <= block_strips_) {
      auto& single = singles_[idx(strip)];
      single.reserve(size_);
      return place = single.data();
    }
    if (block.size() == 0) {
      block.reserve(block_bytes_ / static_cast<std::int64_t>(sizeof(T)));
      prefer_huge_pages(block.data(), idx(block_bytes_));
    }
    return place = block.data() + strip % block_strips_ * size_;
  }
  // Of a strip that was made.
  const T* at(std::int64_t strip) const { return places_[idx(strip)]; }

 private:
  static constexpr std::int64_t kPage = std::int64_t{1} << 21;

  static std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

  void set_size(std::int64_t size) {
    places_.clear();
    singles_.clear();
    blocks_.clear();
    strips_ = first_ = block_strips_ = 0;
    size_ = size;
    if (size == 0) return;
    // At most an eighth of a block is beyond its last strip.
    const std::int64_t bytes = size * static_cast<std::int64_t>(sizeof(T));
    for (block_bytes_ = kPage; block_bytes_ / bytes * bytes < block_bytes_ - block_bytes_ / 8; block_bytes_ *= 2) {
    }
    block_strips_ = block_bytes_ / bytes;
  }

  void give_back(std::int64_t strip) {
    places_[idx(strip)] = nullptr;
    singles_[idx(strip)] = {};
  }

  std::int64_t size_ = 0;  // of a strip, in values
  std::int64_t strips_ = 0;
  std::int64_t first_ = 0;  // those before it were dropped
  std::int64_t block_strips_ = 0, block_bytes_ = 0;
  std::vector<T*> places_;                                    // [strips]; null: none yet
  std::vector<AlignedBuffer<T>> singles_;                     // [strips]; empty: in a block, or none yet
  std::vector<AlignedBuffer<T, std::size_t{kPage}>> blocks_;  // empty: none yet
  std::mutex mutex_;                                          // of blocks_
};

}  // namespace ag::cpu
