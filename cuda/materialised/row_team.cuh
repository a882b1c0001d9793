// SPDX-License-Identifier: Apache-2.0
// Rows shared out to teams of whole warps: one warp for short rows, all warps of a block for long ones.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../common/warp.cuh"

namespace ag::cuda {

// kWarps warps a row; a block has at least 8 warps, so 8 rows when each takes one.
template <int kWarps>
struct RowTeam {
  static constexpr int kRowsPerBlock = kWarps >= 8 ? 1 : 8 / kWarps;
  static constexpr int kBlockThreads = kWarps * 32 * kRowsPerBlock;

  int lane, warp;  // warp: of the team
  std::int64_t row;

  __device__ __forceinline__ RowTeam()
      : lane(static_cast<int>(threadIdx.x) % 32),
        warp(static_cast<int>(threadIdx.x) / 32 % kWarps),
        row(static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + static_cast<int>(threadIdx.x) / (32 * kWarps)) {}

  __device__ __forceinline__ int thread() const { return warp * 32 + lane; }

  // The sum over the team, the same bits in every thread whatever the schedule. `shared` holds kWarps values and is
  // this call's alone.
  template <class T>
  __device__ __forceinline__ T sum(T value, T* shared) const {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
    if constexpr (kWarps > 1) {
      if (lane == 0) shared[warp] = value;
      __syncthreads();
      value = shared[0];
      for (int w = 1; w < kWarps; ++w) value += shared[w];
    }
    return value;
  }
};

}  // namespace ag::cuda
