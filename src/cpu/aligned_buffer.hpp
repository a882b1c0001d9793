// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace ag::cpu {

// Uninitialised, aligned for any vector at least. Grows, never shrinks, does not keep its content when it grows.
template <class T, std::size_t kAlign = 64>
class AlignedBuffer {
 public:
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::int64_t size() const { return size_; }

  void reserve(std::int64_t size) {
    if (size <= size_) return;
    data_.reset();
    data_.reset(static_cast<T*>(::operator new(static_cast<std::size_t>(size) * sizeof(T), kAlignment)));
    size_ = size;
  }

 private:
  static constexpr std::align_val_t kAlignment{kAlign};
  struct Delete {
    void operator()(T* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<T, Delete> data_;
  std::int64_t size_ = 0;
};

}  // namespace ag::cpu
