// SPDX-License-Identifier: Apache-2.0
// Edges of a ready matrix from bits to CSR.
#include "../stages/compact_bits.cuh"
#include "../stages/mask.cuh"
#include "kernels.hpp"

namespace ag::cuda {
namespace {

template <int kWarps>
__global__ void __launch_bounds__(RowTeam<kWarps>::kBlockThreads, 1) compact_matrix_kernel(CompactMatrix work) {
  ATTNGRAPH_SHARED(s_counts, std::int64_t[kWarps]);
  const RowTeam<kWarps> team;
  const MatrixChunk& chunk = work.chunk;
  if (team.row >= chunk.heads * chunk.queries) return;  // a whole team
  const AnyTensor& weights = chunk.weights;
  const std::int64_t first =
      team.row / chunk.queries * weights.stride_head + team.row % chunk.queries * weights.stride_row;
  for_each_bit(team, work.edges, work.offsets[team.row], s_counts, [&](std::int64_t place, std::int64_t key) {
    work.keys[place] = static_cast<std::int32_t>(key);
    const double weight = load_double(weights.dtype, weights.data, first + key * weights.stride_column);
    if (work.weights_f64 != nullptr) {
      work.weights_f64[place] = weight;
    } else {
      work.weights_f32[place] = static_cast<float>(weight);  // exact: f64 matrices take the other branch
    }
  });
}

template <int kWarps>
cudaError_t launch(const CompactMatrix& work, cudaStream_t stream) {
  using Team = RowTeam<kWarps>;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((work.chunk.rows() + Team::kRowsPerBlock - 1) / Team::kRowsPerBlock));
  config.blockDim = dim3(Team::kBlockThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, compact_matrix_kernel<kWarps>, work);
}

}  // namespace

cudaError_t launch_compact_matrix(const CompactMatrix& work, cudaStream_t stream) {
  if (work.chunk.rows() == 0) return cudaSuccess;
  return work.edges.words <= kWordsOfOneWarp ? launch<1>(work, stream) : launch<8>(work, stream);
}

}  // namespace ag::cuda
