// SPDX-License-Identifier: Apache-2.0
// Rows shared out to teams of whole warps: one warp for short rows, all warps of a block for long ones.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../device/warp.cuh"
#include "chunk_place.cuh"

namespace ag::cuda {

// kWarps warps a row; a block has at least 8 warps, so 8 rows when each takes one.
template <int kWarps>
struct RowTeam {
  static constexpr int kRowsPerBlock = kWarps >= 8 ? 1 : 8 / kWarps;
  static constexpr int kBlockThreads = kWarps * 32 * kRowsPerBlock;

  int lane, warp;    // warp: of the team
  std::int64_t row;  // the n-th

  __device__ __forceinline__ RowTeam()
      : lane(static_cast<int>(threadIdx.x) % 32),
        warp(static_cast<int>(threadIdx.x) / 32 % kWarps),
        row(static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + static_cast<int>(threadIdx.x) / (32 * kWarps)) {}

  // Of a batch, when teams were counted chunk by chunk: its row, and whether there is one. The chunk's number to
  // `chunk`.
  __device__ __forceinline__ bool take_row(const Batch& batch, std::int32_t& chunk) {
    if (row >= batch.count * batch.most_rows) return false;
    const ChunkPlace at(row, batch.most_rows);
    chunk = at.chunk;
    row = batch.chunks[chunk].first_row + at.unit;
    return at.unit < batch.chunks[chunk].rows();
  }

  // The least over the team. `shared` as for sum().
  __device__ __forceinline__ std::uint32_t least(std::uint32_t value, std::uint32_t* shared) const {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const std::uint32_t other = __shfl_xor_sync(kAllLanes, value, step);
      value = other < value ? other : value;
    }
    if constexpr (kWarps > 1) {
      if (lane == 0) shared[warp] = value;
      __syncthreads();
      for (int w = 0; w < kWarps; ++w) value = shared[w] < value ? shared[w] : value;
    }
    return value;
  }

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
