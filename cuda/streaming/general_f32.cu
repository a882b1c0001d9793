// SPDX-License-Identifier: Apache-2.0
#include "instances.cuh"

namespace ag::cuda {

template cudaError_t launch_attention_edges_of<DType::kF32, Variant::kGeneral>(const StreamingArguments&, cudaStream_t);

}  // namespace ag::cuda
