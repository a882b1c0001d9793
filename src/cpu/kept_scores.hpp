// SPDX-License-Identifier: Apache-2.0
// The scores of a task that a second pass over them need not make again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../core/huge_pages.hpp"
#include "aligned_buffer.hpp"

namespace ag::cpu {

// Of blocks of rows against strips of keys: the first ones, as far as there is room.
template <class T>
class KeptScores {
 public:
  // Forgets all. Room for `blocks` times the strips [first_strip, end_strip), of `size` scores each, but for no more
  // than `most` scores.
  void open(std::int64_t blocks, std::int64_t first_strip, std::int64_t end_strip, std::int64_t size,
            std::int64_t most) {
    first_strip_ = first_strip;
    strips_ = std::max<std::int64_t>(0, end_strip - first_strip);
    size_ = size;
    used_ = 0;
    places_.assign(static_cast<std::size_t>(blocks * strips_), -1);
    room_ = std::min(blocks * strips_ * size, most);
    if (room_ + kBeyond <= scores_.size()) return;
    scores_.reserve(room_ + kBeyond);
    prefer_huge_pages(scores_.data(), static_cast<std::size_t>(scores_.size()) * sizeof(T));
  }
  // Null: not kept.
  T* find(std::int64_t block, std::int64_t strip) {
    const std::int64_t place = places_.empty() ? -1 : places_[index(block, strip)];
    return place < 0 ? nullptr : scores_.data() + place;
  }
  // Where the scores are to be written; null: there is no room for them.
  T* add(std::int64_t block, std::int64_t strip) {
    if (used_ + size_ > room_) return nullptr;
    places_[index(block, strip)] = used_;
    used_ += size_;
    return find(block, strip);
  }

 private:
  static constexpr std::int64_t kBeyond = 64;  // readers go up to a vector past a row

  std::size_t index(std::int64_t block, std::int64_t strip) const {
    return static_cast<std::size_t>(block * strips_ + strip - first_strip_);
  }

  std::int64_t first_strip_ = 0, strips_ = 0;
  std::int64_t size_ = 0, room_ = 0, used_ = 0;  // in scores
  std::vector<std::int64_t> places_;             // [blocks][strips_]; -1: not kept
  AlignedBuffer<T> scores_;
};

}  // namespace ag::cpu
