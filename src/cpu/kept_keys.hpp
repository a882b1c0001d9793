// SPDX-License-Identifier: Apache-2.0
// Keys kept for the cpu backend: as they came, and packed in the forms that rows have asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../core/kept_keys.hpp"
#include "key_cache.hpp"

namespace ag::cpu {

// Rows of keys, one after the other: [keys][B * Hkv * D]. Grows by half, at the end, in place where the system can.
class KeyRows {
 public:
  KeyRows() = default;
  ~KeyRows();
  KeyRows(const KeyRows&) = delete;
  KeyRows& operator=(const KeyRows&) = delete;

  void set_row_bytes(std::size_t bytes) { row_bytes_ = bytes; }
  // Room for the keys [first(), end).
  void reserve(std::int64_t end);
  // Gives up keys before `key`; what is left, up to `end`, moves when it is the smaller part.
  void drop_before(std::int64_t key, std::int64_t end);
  std::byte* row(std::int64_t key) const { return data_ + static_cast<std::size_t>(key - base_) * row_bytes_; }
  // The address that key 0 would have.
  const void* origin() const;
  std::size_t bytes() const { return static_cast<std::size_t>(capacity_) * row_bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t row_bytes_ = 0;
  std::int64_t base_ = 0;      // key of the first row
  std::int64_t capacity_ = 0;  // rows
};

class KeptKeys final : public ag::KeptKeys {
 public:
  // Of the kind of `k`: [B, Hkv, any, D].
  explicit KeptKeys(const TensorView& k);

  TensorView view() const override;
  std::int64_t count() const override { return count_; }
  std::int64_t first() const override { return first_; }
  void append(const TensorView& k, Nonfinite nonfinite) override;
  void reserve(std::int64_t keys) override { rows_.reserve(keys); }
  void truncate(std::int64_t count) override;
  void drop_before(std::int64_t key) override;
  std::size_t bytes() const override;
  std::uint64_t packed_bytes() const override;

  // The slot of a group, with room for all keys in the forms of this plan. One call at a time.
  KeySlot& slot(const Group& group, Product product);

 private:
  std::size_t slots() const { return static_cast<std::size_t>(shape_.shape[0] * shape_.shape[1]); }
  void forget(std::int64_t count) noexcept;

  TensorView shape_;
  std::int64_t count_ = 0;
  std::int64_t first_ = 0;
  KeyRows rows_;
  std::unique_ptr<KeySlot[]> slots_;  // [B * Hkv]
};

}  // namespace ag::cpu
