// SPDX-License-Identifier: Apache-2.0
// Edges from where their candidates stand to where the answer has them.
#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "candidates.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

// A warp a row. Keys that ascend, which most passes write, are compacted; others are put where as many smaller keys as
// there are precede them.
__global__ void __launch_bounds__(kThreads, 8)
    copy_edges_kernel(std::int64_t rows, Candidates candidates, const std::int64_t* offsets, std::int32_t* out_keys,
                      float* out_weights) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= rows) return;
  const std::int64_t out = offsets[row];
  if (offsets[row + 1] == out) return;
  const CandidateRow place = candidate_row(candidates, row);
  const std::int64_t counted = candidates.count[row], count = counted < place.capacity ? counted : place.capacity;
  const std::int32_t* const keys = candidates.keys + place.begin;

  bool ascends = true;
  std::int32_t last_key = -1;  // of the edges so far
  for (std::int64_t n = 0; n < count && ascends; n += 32) {
    const std::int32_t key = n + lane < count ? keys[n + lane] : -1;
    const unsigned present = __ballot_sync(kAllLanes, key >= 0);
    const unsigned before = present & lanes_below(lane);
    std::int32_t previous = __shfl_sync(kAllLanes, key, before != 0 ? 31 - __clz(static_cast<int>(before)) : 0);
    if (before == 0) previous = last_key;
    ascends = __ballot_sync(kAllLanes, key >= 0 && previous > key) == 0;
    if (present != 0) last_key = __shfl_sync(kAllLanes, key, 31 - __clz(static_cast<int>(present)));
  }

  std::int64_t done = 0;
  for (std::int64_t n = 0; n < count; n += 32) {
    const std::int64_t at = place.begin + n + lane;
    const std::int32_t key = n + lane < count ? keys[n + lane] : -1;
    const unsigned present = __ballot_sync(kAllLanes, key >= 0);
    std::int64_t rank = done + __popc(present & lanes_below(lane));
    if (!ascends) {
      rank = 0;
      for (std::int64_t m = 0; m < count; ++m) {
        const std::int32_t other = keys[m];  // the same word for all lanes
        rank += other >= 0 && other < key;
      }
    }
    if (key >= 0) {
      out_keys[out + rank] = key;
      out_weights[out + rank] = candidates.scores[at];
    }
    done += __popc(present);
  }
}

}  // namespace

cudaError_t launch_copy_edges(std::int64_t rows, const Candidates& candidates, const std::int64_t* d_offsets,
                              std::int32_t* d_keys, float* d_weights, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(blocks_for(rows, kThreads / 32), kThreads, stream);
  return cudaLaunchKernelEx(&config, copy_edges_kernel, rows, candidates, d_offsets, d_keys, d_weights);
}

}  // namespace ag::cuda
