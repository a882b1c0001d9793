// SPDX-License-Identifier: Apache-2.0
#include "kept_keys.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "../core/checked.hpp"
#include "pairs.hpp"

namespace ag::cpu {
namespace {

// One element row [D] of a key, as its bytes lie side by side.
void copy_row(const TensorView& k, std::int64_t b, std::int64_t h, std::int64_t j, std::byte* out) {
  const std::size_t size = size_of(k.dtype);
  const std::byte* from = k.at(b, h, j);
  if (k.strides[3] == 1) {
    std::memcpy(out, from, static_cast<std::size_t>(k.shape[3]) * size);
    return;
  }
  const std::int64_t step = k.strides[3] * static_cast<std::int64_t>(size);
  for (std::int64_t d = 0; d < k.shape[3]; ++d, from += step, out += size) std::memcpy(out, from, size);
}

}  // namespace

KeyRows::~KeyRows() { std::free(data_); }

void KeyRows::reserve(std::int64_t end) {
  const std::int64_t needed = end - base_;
  if (needed <= capacity_) return;
  const std::int64_t rows = std::max(needed, capacity_ + capacity_ / 2);
  void* const data =
      std::realloc(data_, static_cast<std::size_t>(checked_mul(rows, static_cast<std::int64_t>(row_bytes_), "k")));
  if (data == nullptr) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(data);
  capacity_ = rows;
}

void KeyRows::drop_before(std::int64_t key, std::int64_t end) {
  if (key - base_ < end - key) return;  // so that a key is moved once for every key that came
  std::memmove(data_, row(key), static_cast<std::size_t>(end - key) * row_bytes_);
  base_ = key;
}

const void* KeyRows::origin() const {
  // Of keys that were dropped, nobody reads; the address is what a stride leads from.
  const auto address = reinterpret_cast<std::uintptr_t>(data_) - static_cast<std::uintptr_t>(base_) * row_bytes_;
  return reinterpret_cast<const void*>(address);
}

KeptKeys::KeptKeys(const TensorView& k) : shape_(k) {
  shape_.data = nullptr;
  shape_.device = -1;
  shape_.shape[2] = 0;
  const std::int64_t d = k.shape[3], heads = k.shape[1];
  shape_.strides = {heads * d, d, k.shape[0] * heads * d, 1};
  rows_.set_row_bytes(static_cast<std::size_t>(k.shape[0] * heads * d) * size_of(k.dtype));
  slots_ = std::make_unique<KeySlot[]>(slots());
}

TensorView KeptKeys::view() const {
  TensorView view = shape_;
  view.data = rows_.origin();
  view.shape[2] = count_;
  return view;
}

void KeptKeys::append(const TensorView& k, Nonfinite nonfinite) {
  const std::int64_t end = count_ + k.shape[2], heads = shape_.shape[1], batch = shape_.shape[0];
  rows_.reserve(end);
  const std::size_t head_bytes = static_cast<std::size_t>(shape_.shape[3]) * size_of(shape_.dtype);
  for (std::int64_t j = count_; j < end; ++j) {
    std::byte* out = rows_.row(j);
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t h = 0; h < heads; ++h, out += head_bytes) copy_row(k, b, h, j - count_, out);
    }
  }
  TensorView all = view();
  all.shape[2] = end;
  try {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t h = 0; h < heads; ++h)
        scan_keys(
            all, b, h, end, nonfinite, [] {}, slots_[static_cast<std::size_t>(b * heads + h)].facts);
    }
  } catch (...) {
    forget(count_);
    throw;
  }
  count_ = end;
}

void KeptKeys::forget(std::int64_t count) noexcept {
  for (std::size_t n = 0; n < slots(); ++n) {
    KeySlot& slot = slots_[n];
    slot.facts.truncate(count);
    slot.f32.truncate(count);
    slot.pairs.truncate(count);
    slot.f64.truncate(count);
    slot.bad_keys_told = std::min(slot.bad_keys_told, slot.facts.bad_keys.size());
  }
}

void KeptKeys::truncate(std::int64_t count) {
  forget(count);
  count_ = std::min(count_, count);
}

void KeptKeys::drop_before(std::int64_t key) {
  // Whole strips of every form.
  const std::int64_t first = key / kStripKeys<float> * kStripKeys<float>;
  if (first <= first_) return;
  first_ = first;
  rows_.drop_before(first, count_);
  for (std::size_t n = 0; n < slots(); ++n) {
    slots_[n].f32.drop_before(first);
    slots_[n].pairs.drop_before(first);
    slots_[n].f64.drop_before(first);
  }
}

std::size_t KeptKeys::bytes() const {
  std::size_t bytes = rows_.bytes();
  for (std::size_t n = 0; n < slots(); ++n) {
    const KeySlot& slot = slots_[n];
    bytes += slot.f32.bytes() + slot.pairs.bytes() + slot.f64.bytes();
  }
  return bytes;
}

std::uint64_t KeptKeys::packed_bytes() const {
  std::uint64_t bytes = 0;
  for (std::size_t n = 0; n < slots(); ++n)
    bytes += slots_[n].f32.packed_bytes() + slots_[n].pairs.packed_bytes() + slots_[n].f64.packed_bytes();
  return bytes;
}

KeySlot& KeptKeys::slot(const Group& group, Product product) {
  KeySlot& slot = slots_[static_cast<std::size_t>(group.batch * shape_.shape[1] + group.key_head)];
  slot.group = &group;
  const auto grow = [&]<class T>(PackedKeys<T>& packed, Product of) {
    const Kernels<T> kernel = product_kernels<T>(of, shape_.dtype, true);
    packed.grow((count_ + kStripKeys<T> - 1) / kStripKeys<T>, kStripKeys<T> * kernel.key_depth(shape_.shape[3]),
                kernel.score_strip);
  };
  grow(slot.f32, Product::kFloat);
  grow(slot.pairs, product);
  grow(slot.f64, Product::kFloat);
  return slot;
}

}  // namespace ag::cpu
