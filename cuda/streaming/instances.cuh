// SPDX-License-Identifier: Apache-2.0
// The lists in shape.hpp as code.
#pragma once

#include "instances.hpp"
#include "row_edges.cuh"
#include "row_sums.cuh"

namespace ag::cuda {

// f(Shape) of the smallest instance that holds the pitch.
template <DType kDtype, Variant kVariant, class F>
cudaError_t with_shape(std::int64_t pitch, F&& f) {
#define ATTNGRAPH_INSTANCE(kDim) \
  if (pitch <= kDim) return f(Shape<kDtype, kDim, kVariant>());
  if constexpr (kVariant == Variant::kLean) {
    ATTNGRAPH_STREAMING_LEAN_HEAD_DIMS(ATTNGRAPH_INSTANCE)
  } else {
    ATTNGRAPH_STREAMING_GENERAL_HEAD_DIMS(ATTNGRAPH_INSTANCE)
  }
#undef ATTNGRAPH_INSTANCE
  return cudaErrorInvalidValue;
}

template <DType kDtype, Variant kVariant>
cudaError_t launch_row_sums_of(const StreamingArguments& a, cudaStream_t stream) {
  return with_shape<kDtype, kVariant>(a.operands.pitch,
                                      [&](auto shape) { return launch_row_sums<decltype(shape)>(a, stream); });
}

template <DType kDtype, Variant kVariant>
cudaError_t launch_row_edges_of(const StreamingArguments& a, cudaStream_t stream) {
  return with_shape<kDtype, kVariant>(a.operands.pitch,
                                      [&](auto shape) { return launch_row_edges<decltype(shape)>(a, stream); });
}

}  // namespace ag::cuda
