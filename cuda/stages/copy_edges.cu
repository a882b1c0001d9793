// SPDX-License-Identifier: Apache-2.0
// Edges from where their candidates stand to where the answer has them.
#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "candidates.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 8;  // a row: most have about as many edges

// The bits of a row's lanes, out of a warp that looks at 32 / kLanes rows.
__device__ __forceinline__ unsigned ballot_of_row(bool x) {
  const int first = static_cast<int>(threadIdx.x) % 32 / kLanes * kLanes;
  return __ballot_sync(kAllLanes, x) >> first & ((1u << kLanes) - 1);
}

// Keys that ascend, which most passes write, are compacted; others are put where as many smaller keys as there are
// precede them. Lanes whose row is done stay for the others of their warp. Rows that end beyond `room` are left out.
__global__ void __launch_bounds__(kThreads, 6)
    copy_edges_kernel(std::int64_t rows, Candidates candidates, const std::int64_t* offsets, std::int64_t room,
                      std::int32_t* out_keys, float* out_weights) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int first_lane = static_cast<int>(threadIdx.x) % 32 - lane;
  const std::int64_t n = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  const bool exists = n < rows;
  const std::int64_t row = exists ? n : 0;
  const std::int64_t out = offsets[row];
  const CandidateRow place = candidate_row(candidates, row);
  const std::int64_t counted = candidates.count[row];
  const std::int64_t end = offsets[row + 1];
  const std::int64_t count = !exists || end == out || end > room ? 0
                             : counted < place.capacity          ? counted
                                                                 : place.capacity;
  const std::int32_t* const keys = candidates.keys + place.begin;

  bool ascends = true;
  std::int32_t last_key = -1;  // of the edges so far
  for (std::int64_t at = 0; __any_sync(kAllLanes, at < count && ascends); at += kLanes) {
    const std::int32_t key = at + lane < count ? keys[at + lane] : -1;
    const unsigned present = ballot_of_row(key >= 0);
    const unsigned before = present & lanes_below(lane);
    std::int32_t previous =
        __shfl_sync(kAllLanes, key, first_lane + (before != 0 ? 31 - __clz(static_cast<int>(before)) : 0));
    if (before == 0) previous = last_key;
    ascends = ballot_of_row(key >= 0 && previous > key) == 0 && ascends;
    const std::int32_t last =
        __shfl_sync(kAllLanes, key, first_lane + (present != 0 ? 31 - __clz(static_cast<int>(present)) : 0));
    if (present != 0) last_key = last;
  }

  std::int64_t done = 0;
  for (std::int64_t at = 0; __any_sync(kAllLanes, at < count); at += kLanes) {
    const std::int32_t key = at + lane < count ? keys[at + lane] : -1;
    const unsigned present = ballot_of_row(key >= 0);
    std::int64_t rank = done + __popc(present & lanes_below(lane));
    if (!ascends && key >= 0) {
      rank = 0;
      for (std::int64_t m = 0; m < count; ++m) {
        const std::int32_t other = keys[m];
        rank += other >= 0 && other < key;
      }
    }
    if (key >= 0) {
      out_keys[out + rank] = key;
      out_weights[out + rank] = candidates.scores[place.begin + at + lane];
    }
    done += __popc(present);
  }
}

}  // namespace

cudaError_t launch_copy_edges(std::int64_t rows, const Candidates& candidates, const std::int64_t* d_offsets,
                              std::int64_t room, std::int32_t* d_keys, float* d_weights, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(blocks_for(rows * kLanes, kThreads), kThreads, stream);
  return cudaLaunchKernelEx(&config, copy_edges_kernel, rows, candidates, d_offsets, room, d_keys, d_weights);
}

}  // namespace ag::cuda
