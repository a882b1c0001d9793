// SPDX-License-Identifier: Apache-2.0
// The instances of the sm_90a kernels: one list generates them and dispatches among them.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "../../src/core/dtype.hpp"
#include "arguments.hpp"
#include "shape.hpp"

namespace ag::cuda {

// Operands by panels of 64 columns (shape.hpp): rows of `pitch` elements, of which split f32 has two.
struct WgmmaLaunch {
  CUtensorMap q_map, k_map;
  WgmmaArguments arguments;
  int panels = 1;
  int multiprocessors = 1;
};

// f(WgmmaShape<type, panels>{}) for the instance of a launch; cudaErrorInvalidValue where there is none.
template <class F>
cudaError_t with_wgmma_shape(DType dtype, int panels, F&& f) {
  switch (dtype) {
    case DType::kF16: return panels == 1 ? f(WgmmaShape<DType::kF16, 1>{}) : f(WgmmaShape<DType::kF16, 2>{});
    case DType::kBF16: return panels == 1 ? f(WgmmaShape<DType::kBF16, 1>{}) : f(WgmmaShape<DType::kBF16, 2>{});
    case DType::kF32: return panels == 2 ? f(WgmmaShape<DType::kF32, 2>{}) : cudaErrorInvalidValue;
    default: return cudaErrorInvalidValue;
  }
}

// Statistics of all rows: states.reference, states.sum and top, of one split. launch_wgmma_entropy: and
// states.weighted.
cudaError_t launch_wgmma_statistics(const WgmmaLaunch& launch, cudaStream_t stream);
cudaError_t launch_wgmma_entropy(const WgmmaLaunch& launch, cudaStream_t stream);

// Candidates of all rows against a.cuts: candidates, and states.max_key.
cudaError_t launch_wgmma_edges(const WgmmaLaunch& launch, cudaStream_t stream);

}  // namespace ag::cuda
