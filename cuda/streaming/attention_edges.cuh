// SPDX-License-Identifier: Apache-2.0
// The fused kernel: products, softmax statistics and candidates of a tile of query rows, never a score in memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../common/key_range.hpp"
#include "../common/launch.hpp"
#include "../common/ptx.cuh"
#include "arguments.hpp"
#include "margin.cuh"
#include "masking.cuh"
#include "row_slots.cuh"
#include "shape.hpp"
#include "standouts.cuh"
#include "tiles.cuh"

namespace ag::cuda {

// Tiles of keys in the order of visit: those at the end of the rows' ranges, where a causal row's own key stands, come
// first, for recent keys tend to be heavy and the sooner they are in the sum the higher the cut; then the others. Both
// runs ascend, so each row's candidates are two ascending runs.
struct TileOrder {
  std::int32_t first = 0, count = 0;  // tiles of this block
  std::int32_t ahead = 0;             // of them the last `ahead` come first

  __device__ __forceinline__ std::int32_t tile(std::int32_t visit) const {
    return first + (visit < ahead ? count - ahead + visit : visit - ahead);
  }
};

template <class S>
__device__ __forceinline__ TileOrder tile_order(const StreamingArguments& a, std::int64_t first_packed_row,
                                                std::int32_t split) {
  const std::int64_t last = least(first_packed_row + S::kRows, a.chunk.rows()) - 1;
  // Ranges grow with the query, and packed rows are in the order of queries.
  const DeviceKeyRange low = key_range(a.chunk.mask, a.chunk.query_begin + PackedRow(a.chunk, first_packed_row).query);
  const DeviceKeyRange high = key_range(a.chunk.mask, a.chunk.query_begin + PackedRow(a.chunk, last).query);
  TileOrder order;
  if (low.begin >= high.end) return order;
  const std::int64_t first = low.begin / S::kKeys;
  const std::int64_t tiles = (high.end + S::kKeys - 1) / S::kKeys - first;
  const std::int64_t begin = first + tiles * split / a.states.splits;
  const std::int64_t end = first + tiles * (split + 1) / a.states.splits;
  order.first = static_cast<std::int32_t>(begin);
  order.count = static_cast<std::int32_t>(end - begin);
  const std::int64_t diagonal = most((low.end - 1) / S::kKeys, begin);  // where the first query's range ends
  order.ahead = static_cast<std::int32_t>(least(most(end - diagonal, std::int64_t{1}), end - begin));
  return order;
}

// Fills the table.
template <class S>
__device__ __forceinline__ void open_rows(const StreamingArguments& a, std::int64_t first_packed_row,
                                          std::int32_t split, RowTable<S>& table) {
  const int n = static_cast<int>(threadIdx.x);
  if (n >= S::kRows) return;
  const std::int64_t p = first_packed_row + n;
  table.row[n] = -1;
  table.place[n] = 0;
  table.begin[n] = table.end[n] = 0;
  if (p >= a.chunk.rows()) return;
  const PackedRow packed(a.chunk, p);
  const std::int64_t row = packed.row(a.chunk);
  table.row[n] = row;
  table.place[n] = (split * a.chunk.rows() + row) * a.candidates.capacity;
  const bool unusable = a.facts.unusable != nullptr && a.facts.unusable[row] != 0;
  // Infinite, of either sign, is what attention kernels write for a row without keys.
  const double given = a.chunk.given_logsumexp != nullptr ? a.chunk.given_logsumexp[row] : 0.0;
  const bool given_empty = given - given != 0.0;
  if (unusable || given_empty) return;
  const DeviceKeyRange range = key_range(a.chunk.mask, a.chunk.query_begin + packed.query);
  table.begin[n] = static_cast<std::int32_t>(range.begin);
  table.end[n] = static_cast<std::int32_t>(range.end);
}

// Cuts and margins of a warp's rows before their first key.
template <class S>
__device__ __forceinline__ void open_slots(const StreamingArguments& a, const RowTable<S>& table, int first_row,
                                           float inverse_unit, RowSlots<S>& slots) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  slots.clear();
#pragma unroll
  for (int s = 0; s < S::kSlots; ++s) {
    const std::int64_t row = table.row[first_row + s * 8 + lane / 4];
    const bool has_cut = row >= 0 && a.cut_source != CutSource::kNone && a.cuts != nullptr;
    const float cut = has_cut ? fmaxf(product_cut(a.cuts[row], inverse_unit), kLowestFloat) : kLowestFloat;
    slots.cut[s] = a.cut_source == CutSource::kNone ? -kLowestFloat : cut;
  }
  const std::int64_t kept_row = table.row[first_row + lane % 4 % S::kSlots * 8 + lane / 4];
  slots.margin = kept_row >= 0 ? base2_margin(a.facts.band[kept_row]) : 0.0f;
}

template <class S>
__device__ __forceinline__ void write_rows(const StreamingArguments& a, std::int32_t split, const RowTable<S>& table,
                                           const RowSlots<S>& slots, int first_row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int s = 0; s < S::kSlots; ++s) {
    const double sum = quad_sum(static_cast<double>(slots.sum[s]) - static_cast<double>(slots.rest[s]));
    double weighted = 0;
    if constexpr (S::kGeneral) {
      weighted = quad_sum(static_cast<double>(slots.weighted[s]) - static_cast<double>(slots.weighted_rest[s]));
    }
    // The same in all lanes of the quad. Read by all of them: where only lane s does, the compiler makes slots an array
    // with an index, in local memory.
    const float reference = quad_max(slots.reference[s]), top = quad_max(slots.top[s]);
    const std::int64_t row = table.row[first_row + s * 8 + lane / 4];
    if (lane % 4 != s || row < 0) continue;
    const std::int64_t n = split * a.chunk.rows() + row;
    const bool empty = slots.max_key < 0;
    if (a.states.reference != nullptr) a.states.reference[n] = static_cast<double>(reference) * kLn2;
    if (a.states.sum != nullptr) a.states.sum[n] = empty ? 0.0 : a.sums ? sum : 1.0;
    if (a.states.maximum != nullptr) {
      a.states.maximum[n] = empty ? -infinity_f64() : static_cast<double>(top) * a.natural_unit;
    }
    if (a.states.max_key != nullptr) a.states.max_key[n] = slots.max_key;
    if (S::kGeneral && a.states.weighted != nullptr) a.states.weighted[n] = weighted * kLn2;
    if (a.candidates.count != nullptr) a.candidates.count[n] = slots.count;
  }
}

// One block for each split of each tile of packed rows. Under a causal mask the last rows see most keys: their blocks
// come first, so that no long one is left over at the end.
template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocksPerSm) attention_edges_kernel(StreamingArguments a) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  ATTNGRAPH_SHARED(table, RowTable<S>);
  unsigned char* const s_query = shared;
  unsigned char* const s_keys = shared + S::kQueryBytes;
  float* const s_bias = reinterpret_cast<float*>(s_keys + 2 * S::kTileBytes);

  const std::int64_t tiles = (a.chunk.rows() + S::kRows - 1) / S::kRows;
  const std::int64_t tile_of_rows = tiles - 1 - blockIdx.x / a.states.splits;
  const std::int32_t split = static_cast<std::int32_t>(blockIdx.x % a.states.splits);
  const std::int64_t first_packed_row = tile_of_rows * S::kRows;
  const int warp = static_cast<int>(threadIdx.x) / 32;

  // Scores of the general variant are made base 2 before anything looks at them.
  const float unit = S::kGeneral ? 1.0f : a.unit;
  const float inverse_unit = 1.0f / unit;
  open_rows<S>(a, first_packed_row, split, table);

  const int pitch_bytes = static_cast<int>(a.operands.pitch) * 2;
  const auto* const q_rows = static_cast<const unsigned char*>(a.operands.q);
  const auto* const k_rows = static_cast<const unsigned char*>(a.operands.k);
  const std::int64_t row_bytes = static_cast<std::int64_t>(pitch_bytes) * S::kParts;
  const std::int64_t key_count = least(a.chunk.keys, a.chunk.mask.key_count);  // beyond it keys are not read
  const auto start_tile = [&](std::int32_t tile, int buffer) {
    const std::int64_t first_key = static_cast<std::int64_t>(tile) * S::kKeys;
    const unsigned char* const first = k_rows + first_key * row_bytes;
    const int rows = static_cast<int>(least(key_count - first_key, std::int64_t{S::kKeys}));
    if (rows == S::kKeys && pitch_bytes == 2 * S::kHeadDim) {
      return copy_whole_rows<S, S::kKeys>(s_keys + buffer * S::kTileBytes, first);
    }
    copy_rows<S, S::kKeys>(s_keys + buffer * S::kTileBytes, k_rows, pitch_bytes,
                           [&](int r) { return r < rows ? first + r * row_bytes : nullptr; });
  };

  const TileOrder order = tile_order<S>(a, first_packed_row, split);
  if (order.count > 0) start_tile(order.tile(0), 0);
  QueryFragments<S> query;
  if constexpr (S::kQueryInRegisters) {
    load_query_registers<S>(a, first_packed_row + warp * S::kWarpRows, query);
  } else {
    copy_rows<S, S::kRows>(s_query, q_rows, pitch_bytes, [&](int r) -> const unsigned char* {
      const std::int64_t p = first_packed_row + r;
      return p < a.chunk.rows() ? q_rows + PackedRow(a.chunk, p).row(a.chunk) * row_bytes : nullptr;
    });
  }
  cp_async_commit();
  if (!S::kQueryInRegisters && (a.query_and != 0xFFFFFFFFu || a.query_xor != 0)) {
    cp_async_wait<0>();
    change_query_bits<S>(s_query, a.query_and, a.query_xor);
  }
  __syncthreads();

  const int first_row = warp * S::kWarpRows;
  RowSlots<S> slots;
  open_slots<S>(a, table, first_row, inverse_unit, slots);
  const WarpRange range = warp_range<S>(table, first_row, a.chunk.mask.bad_keys != nullptr);
  const Products<S> products;
  const Standouts<S> standouts{a, table, unit, inverse_unit};

#pragma unroll 1
  for (std::int32_t visit = 0; visit < order.count; ++visit) {
    // The copies of this tile have arrived, everyone's; and everyone has left the other buffer.
    cp_async_wait<0>();
    __syncthreads();
    if (visit + 1 < order.count) start_tile(order.tile(visit + 1), (visit + 1) % 2);
    cp_async_commit();

    const int tile_key = order.tile(visit) * S::kKeys;
    const unsigned char* const s_tile = s_keys + visit % 2 * S::kTileBytes;
#pragma unroll 1
    for (int step = 0; step < S::kKeys; step += S::kStep) {
      const int first_key = tile_key + step;
      if (first_key + S::kStep <= range.any_begin || first_key >= range.any_end) continue;
      Scores<S> scores;
#pragma unroll
      for (int m = 0; m < S::kMTiles; ++m) {
#pragma unroll
        for (int n = 0; n < S::kNTiles; ++n) {
          scores[m][n][0] = scores[m][n][1] = scores[m][n][2] = scores[m][n][3] = 0.0f;
        }
      }
      products.add(query, s_query + first_row * S::kRowBytes, s_tile + step * S::kRowBytes, scores);
      if constexpr (S::kGeneral) {
        finish_scores<S>(a, table, first_row, first_key, s_bias + warp * (S::kWarpRows * S::kBiasPitch), scores);
      }
      if (first_key < range.all_begin || first_key + S::kStep > range.all_end) {
        mask_scores<S>(a, table, first_row, first_key, scores);
      }

      float largest[S::kSlots];
      bool stands_out = false;
#pragma unroll
      for (int s = 0; s < S::kSlots; ++s) {
        largest[s] = slot_score<S>(scores, s, 0);
#pragma unroll
        for (int i = 1; i < S::kSlotScores; ++i) largest[s] = fmaxf(largest[s], slot_score<S>(scores, s, i));
        stands_out |= largest[s] >= fminf(slots.top[s], slots.cut[s]);
      }
      if (__any_sync(kAllLanes, stands_out)) standouts.visit(slots, scores, largest, first_key);

      if (a.sums) {
#pragma unroll
        for (int s = 0; s < S::kSlots; ++s) {
#pragma unroll
          for (int i = 0; i < S::kSlotScores; ++i) {
            const float x = fmaf(slot_score<S>(scores, s, i), unit, -slots.reference[s]);
            const float p = exp2_approx(x);
            slots.tile[s] += p;
            if constexpr (S::kGeneral) {
              // Masked: p is 0, and 0 times -inf must not be NaN.
              if (a.entropy) slots.weighted_tile[s] = fmaf(p, fmaxf(x, -200.0f), slots.weighted_tile[s]);
            }
          }
        }
      }
    }
    slots.end_tile(a.entropy);
    // Often at first, while sums grow fast; later a cut is at most 8 tiles old.
    if ((visit & (visit - 1)) == 0 || visit % 8 == 0) standouts.raise_cuts(slots, true);
  }
  cp_async_wait<0>();
  write_rows<S>(a, split, table, slots, first_row);
}

template <class S>
cudaError_t launch_attention_edges(const StreamingArguments& a, cudaStream_t stream) {
  const std::int64_t blocks = blocks_for(a.chunk.rows(), S::kRows) * a.states.splits;
  if (blocks == 0) return cudaSuccess;
  const auto kernel = attention_edges_kernel<S>;
  const cudaError_t allowed = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (allowed != cudaSuccess) return allowed;
  const cudaLaunchConfig_t config = launch_config(blocks, S::kThreads, stream, S::kSharedBytes);
  return cudaLaunchKernelEx(&config, kernel, a);
}

}  // namespace ag::cuda
