// SPDX-License-Identifier: Apache-2.0
// What a block knows of its rows, and the scores that a thread holds of them.
#pragma once

#include <cstdint>

#include "../stages/key_range.hpp"
#include "arguments.hpp"
#include "row_slots.cuh"
#include "shape.hpp"
#include "tiles.cuh"

namespace ag::cuda {

// What takes from scores by distance (ALiBi): of the general variant alone.
template <class S, bool kHasThem = S::kGeneral>
struct RowSlopes {};
template <class S>
struct RowSlopes<S, true> {
  float slope[S::kRows];            // base 2; 0: none
  std::int32_t position[S::kRows];  // where the query stands among the keys
};

// In shared memory; written before the first key, then only read.
template <class S>
struct RowTable : RowSlopes<S> {
  std::int64_t row[S::kRows];    // of the chunk; -1: beyond its last
  std::int32_t begin[S::kRows];  // keys [begin, end); both 0 for a row that may see none
  std::int32_t end[S::kRows];
};

template <class S>
__device__ __forceinline__ void open_rows(const Chunk& chunk, std::int64_t first_packed_row, RowTable<S>& table) {
  const int n = static_cast<int>(threadIdx.x);
  if (n >= S::kRows) return;
  const std::int64_t p = first_packed_row + n;
  table.row[n] = -1;
  table.begin[n] = table.end[n] = 0;
  if constexpr (S::kGeneral) table.slope[n] = 0.0f, table.position[n] = 0;
  if (p >= chunk.rows()) return;
  const PackedRow packed(chunk, p);
  if constexpr (S::kGeneral) {
    if (chunk.mask.slopes != nullptr) {
      table.slope[n] = static_cast<float>(chunk.mask.slopes[chunk.head_ids[packed.head]] * kLog2E);
      table.position[n] = static_cast<std::int32_t>(chunk.query_begin + packed.query + chunk.mask.query_offset);
    }
  }
  const std::int64_t row = packed.row(chunk);
  table.row[n] = row;
  const double norm = chunk.norm_of(row);
  // Infinite, of either sign, is what attention kernels write for a row without keys.
  const double given = chunk.given_logsumexp != nullptr ? chunk.given_logsumexp[row] : 0.0;
  if (!(norm == norm) || given - given != 0.0) return;
  const DeviceKeyRange range = key_range(chunk.mask, chunk.query_begin + packed.query);
  table.begin[n] = static_cast<std::int32_t>(range.begin);
  table.end[n] = static_cast<std::int32_t>(range.end);
}

template <class S>
using Scores = float[S::kMTiles][S::kNTiles][4];

// Score i of those that a thread holds of slot s: of key first + key_of_score(i).
template <class S>
__device__ __forceinline__ float& slot_score(Scores<S>& scores, int s, int i) {
  return scores[s / 2][i / 2][s % 2 * 2 + i % 2];
}
__device__ __forceinline__ int key_of_score(int i) {
  return i / 2 * 8 + 2 * (static_cast<int>(threadIdx.x) % 4) + i % 2;
}

template <class S>
__device__ __forceinline__ float slot_largest(Scores<S>& scores, int s) {
  float largest = slot_score<S>(scores, s, 0);
#pragma unroll
  for (int i = 1; i < S::kSlotScores; ++i) largest = fmaxf(largest, slot_score<S>(scores, s, i));
  return largest;
}

// Bit k: key first + k of the quad's row passes.
template <class S, class Test>
__device__ __forceinline__ std::uint32_t row_bits(Scores<S>& scores, int s, Test&& test) {
  std::uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < S::kSlotScores; ++i) {
    if (test(slot_score<S>(scores, s, i))) bits |= 1u << (i / 2 * 8 + i % 2);
  }
  return quad_or(bits << (2 * (static_cast<int>(threadIdx.x) % 4)));
}

}  // namespace ag::cuda
