// SPDX-License-Identifier: Apache-2.0
// Bits of a row to places, in order: the loop that the compaction kernels share.
#pragma once

#include "pair_bits.hpp"
#include "row_team.cuh"

namespace ag::cuda {

// Calls emit(place, column) for every bit of the team's row, places counted up from `first`. Each warp takes its share
// of the words; with several, each first counts the bits of its own and the sums of those before it are its start.
// Warps of teams read 32 words at once, one a lane.
template <int kWarps, class Emit>
__device__ __forceinline__ void for_each_bit(const RowTeam<kWarps>& team, const PairBits& pairs, std::int64_t first,
                                             std::int64_t* shared, Emit&& emit) {
  const std::uint32_t* const words = pairs.bits + team.row * pairs.words;
  const std::int64_t share = ((pairs.words + kWarps - 1) / kWarps + 31) / 32 * 32;
  const std::int64_t begin = team.warp * share;
  const std::int64_t end = begin + share < pairs.words ? begin + share : pairs.words;
  std::int64_t place = first;
  if constexpr (kWarps > 1) {
    std::int64_t own = 0;
    for (std::int64_t w = begin + team.lane; w < end; w += 32) own += __popc(words[w]);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) own += __shfl_xor_sync(kAllLanes, own, step);
    if (team.lane == 0) shared[team.warp] = own;
    __syncthreads();
    for (int w = 0; w < team.warp; ++w) place += shared[w];
  }
  for (std::int64_t base = begin; base < end; base += 32) {
    std::uint32_t word = base + team.lane < end ? words[base + team.lane] : 0;
    if (__ballot_sync(kAllLanes, word != 0) == 0) continue;  // edges are rare: most words hold none
    const int own = __popc(word);
    int before = own;  // inclusive scan over the lanes
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int lower = __shfl_up_sync(kAllLanes, before, static_cast<unsigned>(step));
      if (team.lane >= step) before += lower;
    }
    std::int64_t next = place + (before - own);
    for (; word != 0; word &= word - 1) emit(next++, (base + team.lane) * 32 + (__ffs(static_cast<int>(word)) - 1));
    place += __shfl_sync(kAllLanes, before, 31);
  }
}

// Rows of more words than this are shared out to 8 warps.
inline constexpr std::int64_t kWordsOfOneWarp = 256;

}  // namespace ag::cuda
