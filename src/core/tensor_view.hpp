// SPDX-License-Identifier: Apache-2.0
// A view of memory that somebody else owns: any strides, no copy.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "dtype.hpp"

namespace ag {

inline constexpr int kMaxDims = 8;

struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int ndim = 0;                                  // 0: no tensor
  std::array<std::int64_t, kMaxDims> shape{};    // [ndim]
  std::array<std::int64_t, kMaxDims> strides{};  // elements; may be 0 or negative
  int device = -1;                               // the CUDA device whose memory it is; -1: host memory

  explicit operator bool() const { return ndim > 0; }

  // Address of the element at `index`, one entry per leading dimension; the rest are 0.
  template <class... Index>
  const std::byte* at(Index... index) const {
    const std::int64_t indices[] = {static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (std::size_t n = 0; n < sizeof...(index); ++n) offset += indices[n] * strides[n];
    return static_cast<const std::byte*>(data) + offset * static_cast<std::int64_t>(size_of(dtype));
  }
};

// Row-major view.
TensorView contiguous_view(const void* data, DType dtype, std::initializer_list<std::int64_t> shape);

// The same view with leading dimensions of size 1 put before it, until it has `ndim`; existing dimensions keep their
// strides.
TensorView with_leading_ones(const TensorView& view, int ndim);

// "[2, 8, 1024, 64]"
std::string shape_text(const TensorView& view);

}  // namespace ag
