// SPDX-License-Identifier: Apache-2.0
// Candidates from bits to the places of their rows.
#include "../device/launch.hpp"
#include "../stages/candidates.cuh"
#include "../stages/compact_bits.cuh"
#include "score_rule.cuh"

namespace ag::cuda {
namespace {

template <int kWarps>
__global__ void __launch_bounds__(RowTeam<kWarps>::kBlockThreads)
    compact_ballot_kernel(CompactScores work, FloatScoreRule rule) {
  ATTNGRAPH_SHARED(s_counts, std::int64_t[kWarps]);
  RowTeam<kWarps> team;
  std::int32_t number = 0;
  if (!team.take_row(work.batch, number) || work.batch.facts[number].in_double()) return;  // a whole team
  const Chunk& chunk = work.batch.chunks[number];
  const CandidateRow row = candidate_row(work.out, team.row);
  for_each_bit(team, work.candidates, 0, s_counts, [&](std::int64_t place, std::int64_t column) {
    if (place >= row.capacity) return;
    work.out.keys[row.begin + place] = static_cast<std::int32_t>(work.scores.key_begin + column);
    work.out.scores[row.begin + place] = candidate_score(chunk, rule, work.scores, team.row, column);
  });
}

template <int kWarps>
cudaError_t launch(const CompactScores& work, cudaStream_t stream) {
  using Team = RowTeam<kWarps>;
  const std::int64_t rows = work.batch.count * work.batch.most_rows;
  const cudaLaunchConfig_t config = launch_config(blocks_for(rows, Team::kRowsPerBlock), Team::kBlockThreads, stream);
  return cudaLaunchKernelEx(&config, compact_ballot_kernel<kWarps>, work, in_float({work.scale, work.softcap}));
}

}  // namespace

cudaError_t launch_compact_ballot(const CompactScores& work, cudaStream_t stream) {
  if (work.batch.rows == 0) return cudaSuccess;
  return work.candidates.words <= kWordsOfOneWarp ? launch<1>(work, stream) : launch<8>(work, stream);
}

}  // namespace ag::cuda
