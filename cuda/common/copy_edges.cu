// SPDX-License-Identifier: Apache-2.0
// Edges from where their candidates stand to where the answer has them.
#include "candidates.cuh"
#include "launch.hpp"
#include "stages.hpp"
#include "warp.cuh"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

// A warp a row. The edges of a split are one or two ascending runs; two are exchanged. First where the second begins,
// then every edge to its place.
__global__ void __launch_bounds__(kThreads, 8)
    copy_edges_kernel(std::int64_t rows, std::int32_t splits, Candidates candidates, const double* weights_f64,
                      const std::int64_t* offsets, std::int32_t* out_keys, float* out_weights,
                      double* out_weights_f64) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= rows) return;
  std::int64_t out = offsets[row];
  for (int s = 0; s < splits; ++s) {
    const CandidateRow place = candidate_row(candidates, rows, s, row);
    std::int64_t count = candidates.count[s * rows + row];
    if (count > place.capacity) count = place.capacity;

    std::int64_t edges = 0, first_run = -1;  // first_run: edges before the one that descends
    std::int32_t last_key = -1;              // of the edges so far
    for (std::int64_t n = 0; n < count; n += 32) {
      const std::int32_t key = n + lane < count ? candidates.keys[place.begin + n + lane] : -1;
      const unsigned present = __ballot_sync(kAllLanes, key >= 0);
      const unsigned before = present & lanes_below(lane);
      std::int32_t previous = __shfl_sync(kAllLanes, key, before != 0 ? 31 - __clz(static_cast<int>(before)) : 0);
      if (before == 0) previous = last_key;
      const unsigned descends = __ballot_sync(kAllLanes, key >= 0 && previous > key);
      if (descends != 0 && first_run < 0) {
        const int at = __ffs(static_cast<int>(descends)) - 1;
        first_run = edges + __popc(present & lanes_below(at));
      }
      if (present != 0) last_key = __shfl_sync(kAllLanes, key, 31 - __clz(static_cast<int>(present)));
      edges += __popc(present);
    }

    const std::int64_t second_run = first_run < 0 ? 0 : edges - first_run;
    std::int64_t done = 0;
    for (std::int64_t n = 0; n < count; n += 32) {
      const std::int64_t at = place.begin + n + lane;
      const std::int32_t key = n + lane < count ? candidates.keys[at] : -1;
      const unsigned present = __ballot_sync(kAllLanes, key >= 0);
      const std::int64_t rank = done + __popc(present & lanes_below(lane));
      if (key >= 0) {
        const std::int64_t to = out + (second_run > 0 && rank >= first_run ? rank - first_run : rank + second_run);
        out_keys[to] = key;
        out_weights[to] = candidates.scores[at];
        if (weights_f64 != nullptr) out_weights_f64[to] = weights_f64[at];
      }
      done += __popc(present);
    }
    out += edges;
  }
}

}  // namespace

cudaError_t launch_copy_edges(const Chunk& chunk, const RowStates& states, const Candidates& candidates,
                              const double* d_weights_f64, const std::int64_t* d_offsets, std::int32_t* d_keys,
                              float* d_weights, double* d_out_weights_f64, cudaStream_t stream) {
  if ((d_weights_f64 == nullptr) != (d_out_weights_f64 == nullptr)) return cudaErrorInvalidValue;
  if (chunk.rows() == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(blocks_for(chunk.rows(), kThreads / 32), kThreads, stream);
  return cudaLaunchKernelEx(&config, copy_edges_kernel, chunk.rows(), states.splits, candidates, d_weights_f64,
                            d_offsets, d_keys, d_weights, d_out_weights_f64);
}

}  // namespace ag::cuda
