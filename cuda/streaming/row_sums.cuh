// SPDX-License-Identifier: Apache-2.0
// The first pass: sums of exponentials and the largest score of every row, never a score in memory.
#pragma once

#include "margin.cuh"
#include "walk.cuh"

namespace ag::cuda {

template <class S>
__device__ __forceinline__ void write_sums(const StreamingArguments& a, const BlockPlace& place,
                                           const RowTable<S>& table, const RowSlots<S>& slots) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_row = static_cast<int>(threadIdx.x) / 32 * S::kWarpRows;
  const std::int64_t first = place.split * a.batch.rows + a.batch.chunks[place.chunk].first_row;
#pragma unroll
  for (int s = 0; s < S::kSlots; ++s) {
    const double sum = quad_sum(static_cast<double>(slots.sum[s]) - static_cast<double>(slots.rest[s]));
    double weighted = 0;
    if constexpr (S::kWeighs) {
      weighted = quad_sum(static_cast<double>(slots.weighted[s]) - static_cast<double>(slots.weighted_rest[s]));
    }
    // The same in all lanes of the quad. Read by all of them: where only lane s does, the compiler makes slots an array
    // with an index, in local memory.
    const float reference = quad_max(slots.reference[s]), top = quad_max(slots.top[s]);
    const std::int64_t row = table.row[first_row + s * 8 + lane / 4];
    if (lane % 4 != s || row < 0) continue;
    const std::int64_t n = first + row;
    const bool empty = top == kLowestFloat;
    a.states.reference[n] = static_cast<double>(reference) * kLn2;
    a.states.sum[n] = empty ? 0.0 : sum;
    a.top[n] = top;
    if (S::kWeighs && a.states.weighted != nullptr) a.states.weighted[n] = weighted * kLn2;
  }
}

// The largest scores of groups of keys: each lane's own, of every group_tiles tiles.
template <class S>
struct GroupMaxima {
  float top[S::kSlots];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) top[s] = kLowestFloat;
  }

  // After a tile: writes when the group ends with it, or with the block's last tile.
  __device__ __forceinline__ void end_tile(const StreamingArguments& a, std::int64_t first_row_of_chunk,
                                           const RowTable<S>& table, std::int32_t tile, bool last) {
    if (!last && (tile + 1) % a.groups.tiles != 0) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first_row = static_cast<int>(threadIdx.x) / 32 * S::kWarpRows;
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      const std::int64_t row = table.row[first_row + s * 8 + lane / 4];
      if (row >= 0) {
        const std::int64_t group = tile / a.groups.tiles * kGroupsOfTile + lane % 4;
        a.groups.top[(first_row_of_chunk + row) * a.groups.count + group] = top[s];
      }
      top[s] = kLowestFloat;
    }
  }
};

template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocksPerSm) row_sums_kernel(StreamingArguments a) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  ATTNGRAPH_SHARED(table, RowTable<S>);
  const BlockPlace place = BlockPlace::find<S>(a);
  if (!place.exists) return;
  const Chunk& chunk = a.batch.chunks[place.chunk];
  // Scores of the general variant are made base 2 before anything looks at them.
  const float unit = S::kGeneral ? 1.0f : a.batch.facts[place.chunk].units.unit;
  const float inverse_unit = 1.0f / unit;
  const bool entropy = S::kGeneral ? a.entropy : S::kWeighs;
  const std::int64_t first_row_of_chunk = chunk.first_row;
  open_rows<S>(chunk, place.first_packed_row, table);
  __syncthreads();
  const TileRange tiles = tile_range<S>(chunk, place, a.splits);
  RowSlots<S> slots;
  slots.clear();
  GroupMaxima<S> groups;
  if constexpr (S::kGeneral) groups.clear();

  walk_keys<S>(
      a, place, tiles, shared, table,
      [&](Scores<S>& scores, int) {
        bool moves = false;
#pragma unroll
        for (int s = 0; s < S::kSlots; ++s) {
          const float largest = slot_largest<S>(scores, s);
          slots.top[s] = fmaxf(slots.top[s], largest);
          moves |= largest > slots.limit[s];
          if constexpr (S::kGeneral) groups.top[s] = fmaxf(groups.top[s], largest);
        }
        if (__any_sync(kAllLanes, moves)) {
#pragma unroll
          for (int s = 0; s < S::kSlots; ++s) {
            slots.follow(s, slot_largest<S>(scores, s), unit, inverse_unit, entropy);
          }
        }
#pragma unroll
        for (int s = 0; s < S::kSlots; ++s) {
#pragma unroll
          for (int i = 0; i < S::kSlotScores; ++i) {
            const float x = fmaf(slot_score<S>(scores, s, i), unit, -slots.reference[s]);
            const float p = exp2_approx(x);
            slots.tile[s] += p;
            if constexpr (S::kWeighs) {
              // Masked: p is 0, and 0 times -inf must not be NaN.
              if (entropy) slots.weighted_tile[s] = fmaf(p, fmaxf(x, -200.0f), slots.weighted_tile[s]);
            }
          }
        }
      },
      [&](std::int32_t tile) {
        slots.end_tile(entropy);
        if constexpr (S::kGeneral) {
          if (a.groups.top != nullptr) {
            groups.end_tile(a, first_row_of_chunk, table, tile, tile + 1 == tiles.first + tiles.count);
          }
        }
      });
  write_sums<S>(a, place, table, slots);
}

template <class S>
cudaError_t launch_row_sums(const StreamingArguments& a, cudaStream_t stream) {
  if (a.batch.rows == 0) return cudaSuccess;
  const auto kernel = row_sums_kernel<S>;
  const cudaError_t allowed = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (allowed != cudaSuccess) return allowed;
  const cudaLaunchConfig_t config = launch_config_of<S>(a, stream);
  return cudaLaunchKernelEx(&config, kernel, a);
}

}  // namespace ag::cuda
