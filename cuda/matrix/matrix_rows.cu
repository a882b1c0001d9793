// SPDX-License-Identifier: Apache-2.0
// Rows of a ready matrix: exact comparison of the stored weights, and the statistics of each row.
#include <cmath>

#include "core/edge_rule.hpp"

#include "../stages/mask.cuh"
#include "../stages/row_team.cuh"
#include "kernels.hpp"

namespace ag::cuda {
namespace {

struct Partial {
  double maximum = -INFINITY;
  std::int32_t max_key = -1;
  double sum = 0;
  double entropy = 0;
  double kept = 0;
};

// a and b of different keys; the smallest key wins a tie.
__device__ __forceinline__ void merge(Partial& a, const Partial& b) {
  const bool other =
      b.max_key >= 0 && (a.max_key < 0 || b.maximum > a.maximum || (b.maximum == a.maximum && b.max_key < a.max_key));
  if (other) {
    a.maximum = b.maximum;
    a.max_key = b.max_key;
  }
  a.sum += b.sum;
  a.entropy += b.entropy;
  a.kept += b.kept;
}

__device__ __forceinline__ Partial shuffle_xor(const Partial& p, int step) {
  Partial other;
  other.maximum = __shfl_xor_sync(kAllLanes, p.maximum, step);
  other.max_key = __shfl_xor_sync(kAllLanes, p.max_key, step);
  other.sum = __shfl_xor_sync(kAllLanes, p.sum, step);
  other.entropy = __shfl_xor_sync(kAllLanes, p.entropy, step);
  other.kept = __shfl_xor_sync(kAllLanes, p.kept, step);
  return other;
}

// kType: ag::DType of the matrix. Doubles throughout: the comparison is exact, and so are the terms of the sums.
template <DType kType, int kWarps>
__global__ void __launch_bounds__(RowTeam<kWarps>::kBlockThreads, 1) matrix_rows_kernel(MatrixRows work) {
  ATTNGRAPH_SHARED(s_partials, Partial[kWarps]);
  ATTNGRAPH_SHARED(s_counts, std::int64_t[kWarps]);
  const RowTeam<kWarps> team;
  const MatrixChunk& chunk = work.chunk;
  const std::int64_t row = team.row;
  if (row >= chunk.heads * chunk.queries) return;  // a whole team
  const std::int64_t g = row / chunk.queries, local = row % chunk.queries;
  const std::int64_t query = chunk.query_begin + local;
  const std::int64_t head = chunk.head_ids != nullptr ? chunk.head_ids[g] : 0;
  const DeviceKeyRange keys = key_range(chunk.mask, query);
  const std::int64_t first = g * chunk.weights.stride_head + local * chunk.weights.stride_row;
  std::uint32_t* const words = work.edges.bits + row * work.edges.words;

  Partial p;
  std::int64_t edges = 0;
  for (std::int64_t base = team.warp * 32; base < work.edges.words * 32; base += kWarps * 32) {
    const std::int64_t key = base + team.lane;
    bool edge = false;
    if (key >= keys.begin && key < keys.end && !isinf(tensor_bias(chunk.mask, head, query, key))) {
      const double weight =
          load_double(static_cast<std::int32_t>(kType), chunk.weights.data, first + key * chunk.weights.stride_column);
      if (!isfinite(weight)) {
        atomicAdd(&work.finding->count, 1ull);
        atomicMin(&work.finding->first, static_cast<unsigned long long>(row * chunk.keys + key));
      } else {
        if (p.max_key < 0 || weight > p.maximum) {
          p.maximum = weight;
          p.max_key = static_cast<std::int32_t>(key);
        }
        p.sum += weight;
        if (chunk.entropy && weight > 0) p.entropy -= weight * log(weight);
        edge = chunk.threshold == 0 || is_matrix_edge(weight, chunk.threshold);
        if (edge) p.kept += weight;
      }
    }
    const std::uint32_t word = __ballot_sync(kAllLanes, edge);
    if (team.lane == 0) words[base / 32] = word;
    edges += __popc(word);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) merge(p, shuffle_xor(p, step));
  if constexpr (kWarps > 1) {
    if (team.lane == 0) {
      s_partials[team.warp] = p;
      s_counts[team.warp] = edges;
    }
    __syncthreads();
  }
  if (team.thread() != 0) return;
  if constexpr (kWarps > 1) {
    for (int w = 1; w < kWarps; ++w) {
      merge(p, s_partials[w]);
      edges += s_counts[w];
    }
  }
  work.edges.counts[row] = edges;
  work.results.logsumexp[row] = p.max_key < 0 ? -INFINITY : log(p.sum);  // of a negative sum NaN
  work.results.maximum[row] = p.maximum;
  work.results.max_key[row] = p.max_key;
  work.results.kept_mass[row] = p.kept;
  if (chunk.entropy) work.results.entropy[row] = p.entropy;
}

template <DType kType, int kWarps>
cudaError_t launch(const MatrixRows& work, cudaStream_t stream) {
  using Team = RowTeam<kWarps>;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((work.chunk.rows() + Team::kRowsPerBlock - 1) / Team::kRowsPerBlock));
  config.blockDim = dim3(Team::kBlockThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, matrix_rows_kernel<kType, kWarps>, work);
}

template <DType kType>
cudaError_t launch_by_length(const MatrixRows& work, cudaStream_t stream) {
  return work.chunk.keys <= 1024 ? launch<kType, 1>(work, stream) : launch<kType, 8>(work, stream);
}

}  // namespace

cudaError_t launch_matrix_rows(const MatrixRows& work, cudaStream_t stream) {
  if (work.edges.words != bit_words(work.chunk.keys)) return cudaErrorInvalidValue;
  if (work.chunk.rows() == 0) return cudaSuccess;
  switch (static_cast<DType>(work.chunk.weights.dtype)) {
    case DType::kF64: return launch_by_length<DType::kF64>(work, stream);
    case DType::kF32: return launch_by_length<DType::kF32>(work, stream);
    case DType::kF16: return launch_by_length<DType::kF16>(work, stream);
    case DType::kBF16: return launch_by_length<DType::kBF16>(work, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace ag::cuda
