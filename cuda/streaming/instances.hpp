// SPDX-License-Identifier: Apache-2.0
// The fused kernels' instances, as the host sees them.
#pragma once

#include <cuda_runtime_api.h>

#include "arguments.hpp"
#include "shape.hpp"

namespace ag::cuda {

// Queue the instance whose head size is the smallest that holds operands.pitch. One translation unit defines them for
// each pair, from the lists in shape.hpp; Variant::kEntropy has sums alone. cudaErrorInvalidValue when the pitch is
// larger than all.
template <DType kDtype, Variant kVariant>
cudaError_t launch_row_sums_of(const StreamingArguments& a, cudaStream_t stream);
template <DType kDtype, Variant kVariant>
cudaError_t launch_row_edges_of(const StreamingArguments& a, cudaStream_t stream);

// Between the passes: merges the states of all splits into the first, and makes `cuts`, which is [rows], of the given
// logsumexp or of that of the row and its sink, lowered by the row's band. Sets what row_edges adds to: max_key and
// candidates.count. Chunks whose biases turn out to need double are flagged for it.
cudaError_t launch_row_cuts(const StreamingArguments& a, RowCut* d_cuts, std::int64_t top_k, bool general,
                            cudaStream_t stream);

}  // namespace ag::cuda
