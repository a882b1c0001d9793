// SPDX-License-Identifier: Apache-2.0
// The second pass: products once more, and what reaches the cut of its row. Nothing here can be too much: the sum that
// the cut comes from holds every term, so at most e^margin / t of them reach it.
#pragma once

#include "../stages/candidates.cuh"
#include "walk.cuh"

namespace ag::cuda {

// What a thread looks for in its rows. Of slot s, `count` is kept by lane s of each quad.
template <class S>
struct EdgeSlots {
  float cut[S::kSlots];    // scores from here on are candidates
  float top[S::kSlots];    // the row's largest score, until its key is found
  float floor[S::kSlots];  // the smaller of the two
  int count = 0;

  __device__ __forceinline__ void open(const RowCut* cuts, std::int64_t first_row_of_chunk, const RowTable<S>& table) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first_row = static_cast<int>(threadIdx.x) / 32 * S::kWarpRows;
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      const std::int64_t row = table.row[first_row + s * 8 + lane / 4];
      const RowCut of_row = row >= 0 ? cuts[first_row_of_chunk + row] : RowCut{kHighestFloat, kHighestFloat};
      cut[s] = of_row.cut;
      top[s] = of_row.top;
      floor[s] = fminf(cut[s], top[s]);
    }
  }
};

// Scores of slot s of the warp's quads that stand out, some lane of which reaches its floor.
template <class S>
__device__ __forceinline__ void take_standouts(const StreamingArguments& a, std::int64_t first_row_of_chunk, float unit,
                                               const RowTable<S>& table, EdgeSlots<S>& slots, int s, Scores<S>& scores,
                                               int first_key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int keeper = (lane & ~3) | s;
  const float cut = slots.cut[s], top = slots.top[s];
  const std::uint32_t bits = row_bits<S>(scores, s, [cut](float x) { return x >= cut; });
  const std::uint32_t at_top = row_bits<S>(scores, s, [top](float x) { return x >= top; });
  const std::int64_t row = table.row[static_cast<int>(threadIdx.x) / 32 * S::kWarpRows + s * 8 + lane / 4];
  int n = 0;
  if (lane == keeper) {
    if (at_top != 0)
      atomicMin(a.states.max_key + first_row_of_chunk + row, first_key + __ffs(static_cast<int>(at_top)) - 1);
    n = slots.count;
    if (bits != 0) {
      const int found = __popc(bits);
      if (a.splits > 1) n = atomicAdd(a.candidates.count + first_row_of_chunk + row, found);
      slots.count += found;
    }
  }
  n = __shfl_sync(kAllLanes, n, keeper);
  if (at_top != 0) {  // tiles ascend: the smallest key of the block's is found
    slots.top[s] = kHighestFloat;
    slots.floor[s] = cut;
  }
  if (bits == 0 || a.candidates.keys == nullptr) return;
  const CandidateRow place = candidate_row(a.candidates, first_row_of_chunk + row);
#pragma unroll
  for (int i = 0; i < S::kSlotScores; ++i) {
    const int k = key_of_score(i);
    const std::int64_t to = n + __popc(bits & ((1u << k) - 1));
    if ((bits >> k & 1) != 0 && to < place.capacity) {
      a.candidates.keys[place.begin + to] = first_key + k;
      a.candidates.scores[place.begin + to] = slot_score<S>(scores, s, i) * unit;
    }
  }
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocksPerSm) row_edges_kernel(StreamingArguments a) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  ATTNGRAPH_SHARED(table, RowTable<S>);
  const BlockPlace place = BlockPlace::find<S>(a);
  if (!place.exists) return;
  const Chunk& chunk = a.batch.chunks[place.chunk];
  const float unit = S::kGeneral ? 1.0f : a.batch.facts[place.chunk].units.unit;
  const std::int64_t first_row_of_chunk = chunk.first_row;
  open_rows<S>(chunk, place.first_packed_row, table);
  __syncthreads();
  const TileRange tiles = tile_range<S>(chunk, place, a.splits);
  EdgeSlots<S> slots;
  slots.open(a.cuts, first_row_of_chunk, table);

  walk_keys<S>(
      a, place, tiles, shared, table,
      [&](Scores<S>& scores, int first_key) {
        float largest[S::kSlots];
        bool stands_out = false;
#pragma unroll
        for (int s = 0; s < S::kSlots; ++s) {
          largest[s] = slot_largest<S>(scores, s);
          stands_out |= largest[s] >= slots.floor[s];
        }
        if (!__any_sync(kAllLanes, stands_out)) return;
#pragma unroll
        for (int s = 0; s < S::kSlots; ++s) {
          if (__any_sync(kAllLanes, largest[s] >= slots.floor[s])) {
            take_standouts<S>(a, first_row_of_chunk, unit, table, slots, s, scores, first_key);
          }
        }
      },
      [](std::int32_t) {});

  if (a.splits > 1) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int s = 0; s < S::kSlots; ++s) {
    const std::int64_t row = table.row[static_cast<int>(threadIdx.x) / 32 * S::kWarpRows + s * 8 + lane / 4];
    if (lane % 4 == s && row >= 0) a.candidates.count[first_row_of_chunk + row] = slots.count;
  }
}

template <class S>
cudaError_t launch_row_edges(const StreamingArguments& a, cudaStream_t stream) {
  if (a.batch.rows == 0) return cudaSuccess;
  const auto kernel = row_edges_kernel<S>;
  const cudaError_t allowed = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (allowed != cudaSuccess) return allowed;
  const cudaLaunchConfig_t config = launch_config_of<S>(a, stream);
  return cudaLaunchKernelEx(&config, kernel, a);
}

}  // namespace ag::cuda
