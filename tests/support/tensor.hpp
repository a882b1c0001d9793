// SPDX-License-Identifier: Apache-2.0
// Tensors that own their memory, in any layout a caller may have, with bytes around them that nobody may read or write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "core/tensor_view.hpp"
#include "rounding.hpp"

namespace ag::test {

struct Layout {
  std::vector<std::size_t> order{};  // dimensions from outermost to innermost in memory; empty: row-major
  std::int64_t gap = 0;              // unused elements after every innermost run
  bool reversed = false;             // every stride negative
  std::size_t misalignment = 0;      // bytes
};

class Tensor {
 public:
  // values in row-major order of `shape`, rounded to the dtype. Everything else in the buffer is 0xFF: a NaN to whoever
  // reads it.
  Tensor(DType dtype, std::vector<std::int64_t> shape, const std::vector<double>& values, const Layout& layout = {})
      : shape_(std::move(shape)) {
    std::vector<std::size_t> order = layout.order;
    if (order.empty()) {
      order.resize(shape_.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
    }
    view_.dtype = dtype;
    view_.ndim = static_cast<int>(shape_.size());
    std::int64_t stride = 1, first = 0;
    for (std::size_t n = order.size(); n-- > 0;) {
      const std::size_t d = order[n];
      view_.shape[d] = shape_[d];
      view_.strides[d] = layout.reversed ? -stride : stride;
      if (layout.reversed && shape_[d] > 0) first += (shape_[d] - 1) * stride;
      stride *= shape_[d];
      if (n + 1 == order.size()) stride += layout.gap;
    }
    const std::size_t size = size_of(dtype);
    bytes_.assign(2 * kCanaryBytes + layout.misalignment + (static_cast<std::size_t>(stride) + 1) * size,
                  std::byte{0xFF});
    const std::size_t begin = kCanaryBytes + layout.misalignment + static_cast<std::size_t>(first) * size;
    view_.data = bytes_.data() + begin;
    for (std::size_t n = 0; n < values.size(); ++n) store_rounded(dtype, values[n], mutable_at(n));
    pristine_ = bytes_;
  }
  Tensor(Tensor&&) = default;
  Tensor& operator=(Tensor&&) = default;

  const TensorView& view() const { return view_; }
  std::size_t size() const {
    return static_cast<std::size_t>(
        std::accumulate(shape_.begin(), shape_.end(), std::int64_t{1}, std::multiplies<>()));
  }

  // Element n in row-major order, as stored.
  double value(std::size_t n) const { return load_double(view_.dtype, address(n)); }
  void set(std::size_t n, double x) {
    store_rounded(view_.dtype, x, mutable_at(n));
    pristine_ = bytes_;
  }

  // No byte of the tensor or around it has changed since it was filled.
  bool untouched() const { return bytes_ == pristine_; }

 private:
  static constexpr std::size_t kCanaryBytes = 256;

  const std::byte* address(std::size_t n) const {
    std::int64_t offset = 0;
    for (std::size_t d = shape_.size(); d-- > 0;) {
      const auto extent = static_cast<std::size_t>(shape_[d]);
      offset += static_cast<std::int64_t>(n % extent) * view_.strides[d];
      n /= extent;
    }
    return static_cast<const std::byte*>(view_.data) + offset * static_cast<std::int64_t>(size_of(view_.dtype));
  }
  std::byte* mutable_at(std::size_t n) { return bytes_.data() + (address(n) - bytes_.data()); }

  std::vector<std::int64_t> shape_;
  TensorView view_;
  std::vector<std::byte> bytes_, pristine_;
};

}  // namespace ag::test
