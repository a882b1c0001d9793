// SPDX-License-Identifier: Apache-2.0
#include "instances.hpp"
#include "kernel.cuh"

namespace ag::cuda {

cudaError_t launch_wgmma_entropy(const WgmmaLaunch& launch, cudaStream_t stream) {
  return with_wgmma_shape(static_cast<DType>(launch.arguments.operands.dtype), launch.panels, [&](auto shape) {
    return launch_wgmma<decltype(shape), WgmmaPass::kEntropy>(launch, stream);
  });
}

}  // namespace ag::cuda
