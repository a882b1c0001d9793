// SPDX-License-Identifier: Apache-2.0
// Sizes of a launch, for cudaLaunchKernelEx.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "../../src/core/dtype.hpp"

namespace ag::cuda {

constexpr std::int64_t blocks_for(std::int64_t items, std::int64_t per_block) {
  return (items + per_block - 1) / per_block;
}

// All blocks on grid.x, the only dimension that exceeds 65,535. CUDA refuses more than 2^31 - 1 of them.
inline cudaLaunchConfig_t launch_config(std::int64_t blocks, int threads, cudaStream_t stream,
                                        std::size_t dynamic_shared_bytes = 0) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks > 0x7FFFFFFF ? 0xFFFFFFFFu : static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = dynamic_shared_bytes;
  config.stream = stream;
  return config;
}

// f(std::integral_constant<DType, t>) for a float type t; cudaErrorInvalidValue for any other.
template <class F>
cudaError_t with_float_dtype(std::int32_t dtype, F&& f) {
  switch (static_cast<DType>(dtype)) {
    case DType::kF64: return f(std::integral_constant<DType, DType::kF64>{});
    case DType::kF32: return f(std::integral_constant<DType, DType::kF32>{});
    case DType::kF16: return f(std::integral_constant<DType, DType::kF16>{});
    case DType::kBF16: return f(std::integral_constant<DType, DType::kBF16>{});
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace ag::cuda
