// SPDX-License-Identifier: Apache-2.0
// Keys of one row that may still become edges. A cache, never a limit on the answer: full, it is compacted, then grown.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

namespace ag::cpu {

template <class T>
class Candidates {
 public:
  using Key = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;  // as wide as T: one mask compacts both
  static constexpr std::int64_t kPadding = 64;                                 // whole vectors may be stored at the end

  T* scores() { return scores_.get(); }
  Key* keys() { return keys_.get(); }
  const T* scores() const { return scores_.get(); }
  const Key* keys() const { return keys_.get(); }
  std::int64_t size() const { return size_; }
  void resize(std::int64_t size) { size_ = size; }
  void clear() { size_ = 0; }
  bool has_room(std::int64_t more) const { return size_ + more <= capacity_; }

  void grow(std::int64_t capacity) {
    if (capacity <= capacity_) return;
    const auto n = static_cast<std::size_t>(capacity + kPadding);
    std::unique_ptr<T[]> scores(new T[n]);  // not value-initialised: most of a grown buffer is never touched
    std::unique_ptr<Key[]> keys(new Key[n]);
    std::copy_n(scores_.get(), size_, scores.get());
    std::copy_n(keys_.get(), size_, keys.get());
    scores_ = std::move(scores);
    keys_ = std::move(keys);
    capacity_ = capacity;
    scratch_.reset();
  }

  // As long as scores(), for who looks at them.
  T* scratch() {
    if (!scratch_) scratch_.reset(new T[static_cast<std::size_t>(capacity_ + kPadding)]);
    return scratch_.get();
  }

  // -inf behind the last score, for whole vectors.
  void pad() { std::fill_n(scores_.get() + size_, kPadding, -std::numeric_limits<T>::infinity()); }

  // Drop what is below the cut.
  void compact(T cut) {
    std::int64_t kept = 0;
    for (std::int64_t n = 0; n < size_; ++n) {
      scores_[idx(kept)] = scores_[idx(n)];
      keys_[idx(kept)] = keys_[idx(n)];
      kept += scores_[idx(n)] >= cut;
    }
    size_ = kept;
  }

  // The k-th largest score; size() must be at least k.
  T kth_largest(std::int64_t k) const {
    std::vector<T> copy(scores_.get(), scores_.get() + size_);
    std::nth_element(copy.begin(), copy.begin() + (k - 1), copy.end(), std::greater<T>());
    return copy[idx(k - 1)];
  }

 private:
  static std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

  std::unique_ptr<T[]> scores_;
  std::unique_ptr<Key[]> keys_;
  std::unique_ptr<T[]> scratch_;
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
};

}  // namespace ag::cpu
