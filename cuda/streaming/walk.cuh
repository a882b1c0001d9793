// SPDX-License-Identifier: Apache-2.0
// A block's way over the keys: what both passes do alike, so that both compute the same scores, bit for bit.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../device/launch.hpp"
#include "../device/ptx.cuh"
#include "../stages/key_range.hpp"
#include "arguments.hpp"
#include "masking.cuh"
#include "rows.cuh"
#include "shape.hpp"
#include "tiles.cuh"

namespace ag::cuda {

// Which rows of which chunk, and which part of their keys, are a block's.
struct BlockPlace {
  std::int32_t chunk = 0, split = 0;
  std::int64_t first_packed_row = 0;
  bool exists = false;  // otherwise the block has nothing to do

  // One block for each split of each tile of packed rows. Under a causal mask the last rows see most keys: their
  // blocks come first, those of all chunks of a group, so that no long one is left over at the end.
  template <class S>
  __device__ static __forceinline__ BlockPlace find(const StreamingArguments& a) {
    const std::int64_t units = (a.batch.most_rows + S::kRows - 1) / S::kRows * a.splits;
    const std::int64_t of_group = a.chunk_group * units;
    const auto group = static_cast<std::int32_t>(blockIdx.x / of_group);
    const std::int32_t first = group * a.chunk_group;
    const std::int32_t chunks = least(a.chunk_group, a.batch.count - first);
    const std::int64_t rest = blockIdx.x - group * of_group;
    const std::int64_t unit = rest / chunks;
    BlockPlace place;
    if (unit >= units) return place;
    place.chunk = first + static_cast<std::int32_t>(rest - unit * chunks);
    place.split = static_cast<std::int32_t>(unit % a.splits);
    const std::int64_t tiles = (a.batch.chunks[place.chunk].rows() + S::kRows - 1) / S::kRows;
    const std::int64_t tile = tiles - 1 - unit / a.splits;
    place.first_packed_row = tile * S::kRows;
    place.exists = tile >= 0 && !a.batch.facts[place.chunk].in_double();
    return place;
  }
};

template <class S>
cudaLaunchConfig_t launch_config_of(const StreamingArguments& a, cudaStream_t stream) {
  const std::int64_t units = blocks_for(a.batch.most_rows, S::kRows) * a.splits;
  const std::int64_t groups = blocks_for(a.batch.count, a.chunk_group);
  return launch_config(groups * a.chunk_group * units, S::kThreads, stream, S::kSharedBytes);
}

// Tiles [first, first + count) of the keys, of a block.
struct TileRange {
  std::int32_t first = 0, count = 0;
};

template <class S>
__device__ __forceinline__ TileRange tile_range(const Chunk& chunk, const BlockPlace& place, std::int32_t splits) {
  const std::int64_t last = least(place.first_packed_row + S::kRows, chunk.rows()) - 1;
  // Ranges grow with the query, and packed rows are in the order of queries.
  const DeviceKeyRange low = key_range(chunk.mask, chunk.query_begin + PackedRow(chunk, place.first_packed_row).query);
  const DeviceKeyRange high = key_range(chunk.mask, chunk.query_begin + PackedRow(chunk, last).query);
  TileRange range;
  if (low.begin >= high.end) return range;
  const std::int64_t first = low.begin / S::kKeys;
  const std::int64_t tiles = (high.end + S::kKeys - 1) / S::kKeys - first;
  range.first = static_cast<std::int32_t>(first + tiles * place.split / splits);
  range.count = static_cast<std::int32_t>(first + tiles * (place.split + 1) / splits) - range.first;
  return range;
}

// step(scores, first_key) for every 32 keys that some row of the warp may see, ascending; scores of masked keys are
// -inf. end_tile(tile) after each tile, also where the warp had no step. `table` is filled, and the block has met.
template <class S, class Step, class EndTile>
__device__ __forceinline__ void walk_keys(const StreamingArguments& a, const BlockPlace& place, const TileRange& tiles,
                                          unsigned char* shared, const RowTable<S>& table, Step&& step,
                                          EndTile&& end_tile) {
  unsigned char* const s_query = shared;
  unsigned char* const s_keys = shared + S::kQueryBytes;
  float* const s_bias = reinterpret_cast<float*>(s_keys + 2 * S::kTileBytes);
  const Chunk& chunk = a.batch.chunks[place.chunk];
  const ScoreUnits& units = a.batch.facts[place.chunk].units;
  const std::uint32_t query_and = units.query_and, query_xor = units.query_xor;
  const float general_unit = units.unit;
  const std::uint8_t* const bad_keys = chunk.mask.bad_keys;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_row = warp * S::kWarpRows;

  const int pitch_bytes = static_cast<int>(a.operands.pitch) * 2;
  const std::int64_t row_bytes = static_cast<std::int64_t>(pitch_bytes) * S::kParts;
  const auto* const q_rows =
      static_cast<const unsigned char*>(a.operands.q) + (chunk.first_row + place.first_packed_row) * row_bytes;
  const auto* const k_rows = static_cast<const unsigned char*>(a.operands.k) + place.chunk * a.batch.keys * row_bytes;
  const std::int64_t rows_left = chunk.rows() - place.first_packed_row;
  const std::int64_t key_count = chunk.mask.key_count;  // beyond it keys are zeros
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

  if (tiles.count > 0) start_tile(tiles.first, 0);
  QueryFragments<S> query;
  if constexpr (S::kQueryInRegisters) {
    load_query_registers<S>(reinterpret_cast<const std::uint16_t*>(q_rows + first_row * row_bytes),
                            rows_left - first_row, a.operands.pitch, query_and, query_xor, query);
  } else {
    copy_rows<S, S::kRows>(s_query, q_rows, pitch_bytes,
                           [&](int r) { return r < rows_left ? q_rows + r * row_bytes : nullptr; });
  }
  cp_async_commit();
  if (!S::kQueryInRegisters && (query_and != 0xFFFFFFFFu || query_xor != 0)) {
    cp_async_wait<0>();
    change_query_bits<S>(s_query, query_and, query_xor);
  }
  const WarpRange range = warp_range<S>(table, first_row, bad_keys != nullptr);
  const Products<S> products;

#pragma unroll 1
  for (std::int32_t visit = 0; visit < tiles.count; ++visit) {
    // The copies of this tile have arrived, everyone's; and everyone has left the other buffer.
    cp_async_wait<0>();
    __syncthreads();
    const std::int32_t tile = tiles.first + visit;
    if (visit + 1 < tiles.count) start_tile(tile + 1, (visit + 1) % 2);
    cp_async_commit();

    const unsigned char* const s_tile = s_keys + visit % 2 * S::kTileBytes;
#pragma unroll 1
    for (int offset = 0; offset < S::kKeys; offset += S::kStep) {
      const int first_key = tile * S::kKeys + offset;
      if (first_key + S::kStep <= range.any_begin || first_key >= range.any_end) continue;
      Scores<S> scores;
#pragma unroll
      for (int m = 0; m < S::kMTiles; ++m) {
#pragma unroll
        for (int n = 0; n < S::kNTiles; ++n) {
          scores[m][n][0] = scores[m][n][1] = scores[m][n][2] = scores[m][n][3] = 0.0f;
        }
      }
      products.add(query, s_query + first_row * S::kRowBytes, s_tile + offset * S::kRowBytes, scores);
      if constexpr (S::kGeneral) {
        finish_scores<S>(chunk, a.softcap, general_unit, table, first_row, first_key,
                         s_bias + warp * (S::kWarpRows * S::kBiasPitch), scores);
      }
      if (first_key < range.all_begin || first_key + S::kStep > range.all_end) {
        mask_scores<S>(bad_keys, key_count, table, first_row, first_key, scores);
      }
      step(scores, first_key);
    }
    end_tile(tile);
  }
  cp_async_wait<0>();
}

}  // namespace ag::cuda
