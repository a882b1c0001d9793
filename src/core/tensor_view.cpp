// SPDX-License-Identifier: Apache-2.0
#include "tensor_view.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <span>

namespace ag {

TensorView contiguous_view(const void* data, DType dtype, std::initializer_list<std::int64_t> shape) {
  TensorView view{data, dtype, static_cast<int>(shape.size()), {}, {}, -1};
  int n = 0;
  for (const std::int64_t size : shape) view.shape[static_cast<std::size_t>(n++)] = size;
  std::int64_t stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    view.strides[d] = stride;
    stride *= view.shape[d];
  }
  return view;
}

TensorView with_leading_ones(const TensorView& view, int ndim) {
  TensorView out{view.data, view.dtype, ndim, {}, {}, view.device};
  const int lead = ndim - view.ndim;
  for (int d = 0; d < ndim; ++d) {
    const auto to = static_cast<std::size_t>(d);
    const auto from = static_cast<std::size_t>(d - lead);
    out.shape[to] = d < lead ? 1 : view.shape[from];
    out.strides[to] = d < lead ? 0 : view.strides[from];
  }
  return out;
}

std::string shape_text(const TensorView& view) {
  return fmt::format("[{}]", fmt::join(std::span(view.shape).first(static_cast<std::size_t>(view.ndim)), ", "));
}

}  // namespace ag
