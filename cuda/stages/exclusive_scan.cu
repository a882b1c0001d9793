// SPDX-License-Identifier: Apache-2.0
// Counts to offsets: sums of tiles, their scan by one block, and the scan of each tile on top of it.
#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kPerThread = 8;
constexpr std::int64_t kTile = kThreads * kPerThread;

__device__ __forceinline__ std::int64_t warp_inclusive_scan(std::int64_t x) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int step = 1; step < 32; step *= 2) {
    const std::int64_t other = __shfl_up_sync(kAllLanes, x, step);
    if (lane >= step) x += other;
  }
  return x;
}

// The sum of x over the threads before this one; total is over all of the block. s_sums holds kWarps.
__device__ __forceinline__ std::int64_t block_exclusive_scan(std::int64_t x, std::int64_t* s_sums,
                                                             std::int64_t& total) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t inclusive = warp_inclusive_scan(x);
  if (threadIdx.x % 32 == 31) s_sums[warp] = inclusive;
  __syncthreads();
  std::int64_t before = 0;
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += s_sums[w];
    total += s_sums[w];
  }
  __syncthreads();  // s_sums is free for the next scan
  return before + inclusive - x;
}

template <class Count>
__global__ void __launch_bounds__(kThreads)
    tile_sums_kernel(const Count* counts, std::int64_t n, std::int64_t* tile_sums) {
  ATTNGRAPH_SHARED(s_sums, std::int64_t[kWarps]);
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kTile;
  std::int64_t sum = 0;
  for (int m = 0; m < kPerThread; ++m) {
    const std::int64_t index = begin + m * kThreads + threadIdx.x;
    if (index < n) sum += counts[index];
  }
  std::int64_t total = 0;
  block_exclusive_scan(sum, s_sums, total);
  if (threadIdx.x == 0) tile_sums[blockIdx.x] = total;
}

// One block: tile_sums becomes its own exclusive scan, last the sum of all.
__global__ void __launch_bounds__(kThreads)
    scan_tile_sums_kernel(std::int64_t* tile_sums, std::int64_t tiles, std::int64_t* last) {
  ATTNGRAPH_SHARED(s_sums, std::int64_t[kWarps]);
  std::int64_t carry = 0;
  for (std::int64_t begin = 0; begin < tiles; begin += kThreads) {
    const std::int64_t t = begin + threadIdx.x;
    std::int64_t total = 0;
    const std::int64_t before = block_exclusive_scan(t < tiles ? tile_sums[t] : 0, s_sums, total);
    if (t < tiles) tile_sums[t] = carry + before;
    carry += total;
  }
  if (threadIdx.x == 0) *last = carry;
}

template <class Count>
__global__ void __launch_bounds__(kThreads)
    scan_tiles_kernel(const Count* counts, std::int64_t n, const std::int64_t* tile_sums, std::int64_t* offsets) {
  ATTNGRAPH_SHARED(s_sums, std::int64_t[kWarps]);
  std::int64_t carry = tile_sums[blockIdx.x];
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kTile;
  for (int m = 0; m < kPerThread; ++m) {
    const std::int64_t index = begin + m * kThreads + threadIdx.x;
    std::int64_t total = 0;
    const std::int64_t before = block_exclusive_scan(index < n ? std::int64_t{counts[index]} : 0, s_sums, total);
    if (index < n) offsets[index] = carry + before;
    carry += total;
  }
}

template <class Count>
cudaError_t launch_scan(const Count* d_counts, std::int64_t* d_offsets, std::int64_t n, void* d_scratch,
                        cudaStream_t stream) {
  if (n < 0) return cudaErrorInvalidValue;
  if (n == 0) return cudaMemsetAsync(d_offsets, 0, sizeof(std::int64_t), stream);
  const std::int64_t tiles = blocks_for(n, kTile);
  auto* const d_tile_sums = static_cast<std::int64_t*>(d_scratch);
  const cudaLaunchConfig_t all = launch_config(tiles, kThreads, stream), one = launch_config(1, kThreads, stream);
  cudaError_t code = cudaLaunchKernelEx(&all, tile_sums_kernel<Count>, d_counts, n, d_tile_sums);
  if (code == cudaSuccess) code = cudaLaunchKernelEx(&one, scan_tile_sums_kernel, d_tile_sums, tiles, d_offsets + n);
  if (code == cudaSuccess) {
    const std::int64_t* const tile_sums = d_tile_sums;
    code = cudaLaunchKernelEx(&all, scan_tiles_kernel<Count>, d_counts, n, tile_sums, d_offsets);
  }
  return code;
}

}  // namespace

std::size_t exclusive_scan_scratch_bytes(std::int64_t n) {
  return static_cast<std::size_t>(blocks_for(n, kTile)) * sizeof(std::int64_t);
}

cudaError_t launch_exclusive_scan(const std::int64_t* d_counts, std::int64_t* d_offsets, std::int64_t n,
                                  void* d_scratch, cudaStream_t stream) {
  return launch_scan(d_counts, d_offsets, n, d_scratch, stream);
}

cudaError_t launch_exclusive_scan(const std::int32_t* d_counts, std::int64_t* d_offsets, std::int64_t n,
                                  void* d_scratch, cudaStream_t stream) {
  return launch_scan(d_counts, d_offsets, n, d_scratch, stream);
}

}  // namespace ag::cuda
