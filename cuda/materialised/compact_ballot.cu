// SPDX-License-Identifier: Apache-2.0
// Candidates from bits to packed rows.
#include "compact_bits.cuh"
#include "score_rule.cuh"

namespace ag::cuda {
namespace {

template <int kWarps>
__global__ void __launch_bounds__(RowTeam<kWarps>::kBlockThreads)
    compact_ballot_kernel(CompactScores work, ScoreRule rule) {
  ATTNGRAPH_SHARED(s_counts, std::int64_t[kWarps]);
  const RowTeam<kWarps> team;
  if (team.row >= work.chunk.heads * work.chunk.queries) return;  // a whole team
  for_each_bit(team, work.candidates, work.offsets[team.row], s_counts, [&](std::int64_t place, std::int64_t column) {
    work.keys[place] = static_cast<std::int32_t>(work.scores.key_begin + column);
    work.out[place] = pair_score(work.chunk, rule, work.scores, team.row, column);
  });
}

template <int kWarps>
cudaError_t launch(const CompactScores& work, cudaStream_t stream) {
  using Team = RowTeam<kWarps>;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((work.chunk.rows() + Team::kRowsPerBlock - 1) / Team::kRowsPerBlock));
  config.blockDim = dim3(Team::kBlockThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, compact_ballot_kernel<kWarps>, work, score_rule(work.chunk));
}

}  // namespace

cudaError_t launch_compact_ballot(const CompactScores& work, cudaStream_t stream) {
  if (work.chunk.rows() == 0) return cudaSuccess;
  return work.candidates.words <= kWordsOfOneWarp ? launch<1>(work, stream) : launch<8>(work, stream);
}

}  // namespace ag::cuda
