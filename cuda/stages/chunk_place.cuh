// SPDX-License-Identifier: Apache-2.0
// Which chunk of a batch a block or a warp works on.
#pragma once

#include "../device/macros.cuh"
#include "work.hpp"

namespace ag::cuda {

// The n-th unit of work of its chunk, where every chunk has as many as the largest: those beyond a chunk's own are
// nobody's. `chunk` is a number below batch.count.
struct ChunkPlace {
  std::int32_t chunk = 0;
  std::int64_t unit = 0;
  __device__ __forceinline__ ChunkPlace(std::int64_t n, std::int64_t units_per_chunk)
      : chunk(static_cast<std::int32_t>(n / units_per_chunk)), unit(n - chunk * units_per_chunk) {}
};

// The chunk of a row of the batch, where rows are not visited chunk by chunk.
__device__ __forceinline__ std::int32_t chunk_of_row(const Batch& batch, std::int64_t row) {
  std::int32_t low = 0, high = batch.count - 1;
  while (low < high) {
    const std::int32_t middle = (low + high + 1) / 2;
    if (batch.chunks[middle].first_row <= row) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace ag::cuda
