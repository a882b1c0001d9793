// SPDX-License-Identifier: Apache-2.0
#include "instances.cuh"

namespace ag::cuda {

template cudaError_t launch_row_sums_of<DType::kF16, Variant::kEntropy>(const StreamingArguments&, cudaStream_t);

}  // namespace ag::cuda
