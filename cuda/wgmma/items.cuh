// SPDX-License-Identifier: Apache-2.0
// The work of a launch, cut into items of 256 packed rows of a chunk, and what their rows may see.
#pragma once

#include "../device/warp.cuh"
#include "../stages/key_range.hpp"
#include "../streaming/tiles.cuh"
#include "arguments.hpp"

namespace ag::cuda {

// The same value in all lanes, known to be so: it may live in a uniform register.
__device__ __forceinline__ int uniform(int x) { return __reduce_min_sync(kAllLanes, x); }

struct WgmmaItem {
  int chunk = 0;
  int first_row = 0;  // packed, in its chunk
  int first_tile = 0, tiles = 0;
};

// Keys that some of the packed rows [first, last] of a chunk may see: ranges grow with the query.
__device__ __forceinline__ DeviceKeyRange rows_range(const Chunk& chunk, int first, int last) {
  const int heads = static_cast<int>(chunk.heads);
  const DeviceKeyRange low = key_range(chunk.mask, chunk.query_begin + first / heads);
  const DeviceKeyRange high = key_range(chunk.mask, chunk.query_begin + last / heads);
  return {low.begin, low.begin < high.end ? high.end : low.begin};
}

// Chunks in groups whose keys fit the L2; in a group the last rows of all come first: under a causal mask they see most
// keys, and no long item is left over at the end. False where there is nothing to do.
template <class S>
__device__ __forceinline__ bool open_item(const WgmmaArguments& a, int number, WgmmaItem& item) {
  const int per_group = a.chunk_group * a.row_tiles;
  const int group = number / per_group, rest = number - group * per_group;
  const int chunks =
      static_cast<int>(least(std::int64_t{a.chunk_group}, a.batch.count - std::int64_t{group} * a.chunk_group));
  item.chunk = group * a.chunk_group + rest % chunks;
  item.first_row = (a.row_tiles - 1 - rest / chunks) * S::kRows;
  const Chunk& chunk = a.batch.chunks[item.chunk];
  const int rows = static_cast<int>(chunk.rows());
  if (item.first_row >= rows || a.batch.facts[item.chunk].in_double()) return false;
  const DeviceKeyRange range =
      rows_range(chunk, item.first_row, static_cast<int>(least(item.first_row + S::kRows, rows)) - 1);
  item.first_tile = static_cast<int>(range.begin / S::kKeys);
  item.tiles = range.begin < range.end ? static_cast<int>((range.end + S::kKeys - 1) / S::kKeys) - item.first_tile : 0;
  return true;
}

// The two rows of a lane, g = lane / 4 and g + 8 of its warp's sixteen; -1: there is none. Ranges are empty where there
// is no row, or no usable one.
struct LaneRows {
  int row[2];
  int begin[2], end[2];
  const std::uint8_t* bad_keys;  // of the chunk; null: none
  // Of the warp: keys that some row may see, and that all of them see for certain.
  int any_begin, any_end, all_begin, all_end;
};

__device__ __forceinline__ LaneRows lane_rows(const WgmmaArguments& a, const WgmmaItem& item, int first) {
  const Chunk& chunk = a.batch.chunks[item.chunk];
  const int heads = static_cast<int>(chunk.heads);
  LaneRows rows;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int packed = first + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * h;
    rows.row[h] = -1;
    rows.begin[h] = rows.end[h] = 0;
    if (packed >= chunk.rows()) continue;
    const int query = packed / heads, g = packed - query * heads;
    const std::int64_t row = g * chunk.queries + query;
    rows.row[h] = static_cast<int>(chunk.first_row + row);
    const double norm = chunk.norm_of(row);
    // Infinite, of either sign, is what attention kernels write for a row without keys.
    const double given = chunk.given_logsumexp != nullptr ? chunk.given_logsumexp[row] : 0.0;
    if (!(norm == norm) || given - given != 0.0) continue;
    const DeviceKeyRange range = key_range(chunk.mask, chunk.query_begin + query);
    rows.begin[h] = static_cast<int>(range.begin);
    rows.end[h] = static_cast<int>(range.end);
  }
  constexpr int kMost = 0x7FFFFFFF;
  const auto begin_of = [&](int h) { return rows.begin[h] < rows.end[h] ? rows.begin[h] : kMost; };
  rows.any_begin = uniform(static_cast<int>(least(begin_of(0), begin_of(1))));
  rows.any_end = __reduce_max_sync(kAllLanes, static_cast<int>(most(rows.end[0], rows.end[1])));
  rows.all_begin = __reduce_max_sync(kAllLanes, static_cast<int>(most(rows.begin[0], rows.begin[1])));
  rows.all_end = uniform(static_cast<int>(
      least(rows.begin[0] < rows.end[0] ? rows.end[0] : 0, rows.begin[1] < rows.end[1] ? rows.end[1] : 0)));
  rows.bad_keys = chunk.mask.bad_keys;
  if (rows.bad_keys != nullptr) rows.all_end = 0;
  return rows;
}

// Sum i of a lane belongs to its row i % 4 / 2 and to this key, counted from the tile's first.
__device__ __forceinline__ int key_of_sum(int i) { return i / 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2; }

// Scores of keys outside their row's range, and of bad keys, become -inf.
__device__ __forceinline__ void mask_tile(const LaneRows& rows, int first_key, float (&scores)[64]) {
  const float minus_infinity = -__int_as_float(0x7F800000);
  const int shift = first_key + key_of_sum(0);
  const int begin[2] = {rows.begin[0] - shift, rows.begin[1] - shift};
  const int end[2] = {rows.end[0] - shift, rows.end[1] - shift};
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int key = i / 4 * 8 + i % 2, h = i % 4 / 2;
    if (key < begin[h] || key >= end[h]) scores[i] = minus_infinity;
  }
  if (rows.bad_keys == nullptr) return;
#pragma unroll
  for (int i = 0; i < 64; i += 4) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int key = first_key + key_of_sum(i + e);
      if (key < rows.any_end && rows.bad_keys[key] != 0) scores[i + e] = scores[i + e + 2] = minus_infinity;
    }
  }
}

}  // namespace ag::cuda
