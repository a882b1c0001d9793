// SPDX-License-Identifier: Apache-2.0
// The lists in shape.hpp as code.
#pragma once

#include "attention_edges.cuh"
#include "instances.hpp"

namespace ag::cuda {

template <DType kDtype, Variant kVariant>
cudaError_t launch_attention_edges_of(const StreamingArguments& a, cudaStream_t stream) {
#define ATTNGRAPH_INSTANCE(kDim) \
  if (a.operands.pitch <= kDim) return launch_attention_edges<Shape<kDtype, kDim, kVariant>>(a, stream);
  if constexpr (kVariant == Variant::kLean) {
    ATTNGRAPH_STREAMING_LEAN_HEAD_DIMS(ATTNGRAPH_INSTANCE)
  } else {
    ATTNGRAPH_STREAMING_GENERAL_HEAD_DIMS(ATTNGRAPH_INSTANCE)
  }
#undef ATTNGRAPH_INSTANCE
  return cudaErrorInvalidValue;
}

}  // namespace ag::cuda
