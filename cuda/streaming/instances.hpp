// SPDX-License-Identifier: Apache-2.0
// The fused kernel's instances, as the host sees them.
#pragma once

#include <cuda_runtime_api.h>

#include "arguments.hpp"
#include "shape.hpp"

namespace ag::cuda {

// Queues the instance whose head size is the smallest that holds operands.pitch. One translation unit defines it for
// each pair, from the lists in shape.hpp. cudaErrorInvalidValue when the pitch is larger than all.
template <DType kDtype, Variant kVariant>
cudaError_t launch_attention_edges_of(const StreamingArguments& a, cudaStream_t stream);

// Cuts of rows whose sum is known before the pass, in StreamingArguments::cuts' units, rounded down: from the given
// logsumexp, or else from `states` of all splits and the sink; from the sink alone, a lower bound, when `states` has no
// sums. `cuts` is [rows].
cudaError_t launch_row_cuts(const Chunk& chunk, const RowFacts& facts, const RowStates& states, float* d_cuts,
                            cudaStream_t stream);

}  // namespace ag::cuda
