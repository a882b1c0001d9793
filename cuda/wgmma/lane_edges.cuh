// SPDX-License-Identifier: Apache-2.0
// Edges: products against cuts that are known, of a lane's two rows. A block owns its rows, so that counts live in
// registers, and a row's candidates are written in the order of keys.
#pragma once

#include "items.cuh"

namespace ag::cuda {

struct LaneEdges {
  float unit;
  float cut[2], top[2];
  float floor[2];  // of what is looked at: the smaller of both; +inf: nothing
  int count[2];    // of the row, the same in its four lanes
  int max_key[2];  // of this lane's keys: the first whose product is the row's largest
  int room[2];
  std::int64_t place[2];
  bool positive;  // all floors of the warp are: integer order is float order

  __device__ __forceinline__ LaneEdges(const WgmmaArguments& a, const LaneRows& rows, float of_a_product)
      : unit(of_a_product) {
    const float infinity = __int_as_float(0x7F800000);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = rows.row[h];
      cut[h] = top[h] = floor[h] = infinity;
      count[h] = room[h] = 0;
      place[h] = 0;
      max_key[h] = 0x7FFFFFFF;
      if (row < 0 || rows.begin[h] >= rows.end[h]) continue;
      cut[h] = a.cuts[row].cut;
      top[h] = a.cuts[row].top;
      floor[h] = fminf(cut[h], top[h]);
      const bool packed = a.candidates.offsets != nullptr;
      place[h] = packed ? a.candidates.offsets[row] : row * a.candidates.capacity;
      const std::int64_t most_here = packed ? a.candidates.offsets[row + 1] - place[h] : a.candidates.capacity;
      room[h] = a.candidates.keys != nullptr ? static_cast<int>(most_here) : 0;
    }
    positive = __all_sync(kAllLanes, floor[0] > 0.0f && floor[1] > 0.0f) != 0;
  }

  // Score n of the eight of row h in group k: keys 32 k + 8 (n / 2) + n % 2 of the tile, and the lane's own shift.
  static __device__ __forceinline__ float at(const float (&scores)[64], int h, int k, int n) {
    return scores[16 * k + n / 2 * 4 + h * 2 + n % 2];
  }

  __device__ __forceinline__ void add(const WgmmaArguments& a, const float (&scores)[64], int first_key) {
    float largest[2][4];
    bool stands_out = false;
    if (positive) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        int all = 0;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const auto x = [&](int n) { return __float_as_int(at(scores, h, k, n)); };
          const int m = max(max(max(max(x(0), x(1)), x(2)), max(max(x(3), x(4)), x(5))), max(x(6), x(7)));
          largest[h][k] = __int_as_float(m);
          all = max(all, m);
        }
        stands_out |= __int_as_float(all) >= floor[h];
      }
    } else {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const auto x = [&](int n) { return at(scores, h, k, n); };
          largest[h][k] =
              fmaxf(fmaxf(fmaxf(x(0), x(1)), fmaxf(x(2), x(3))), fmaxf(fmaxf(x(4), x(5)), fmaxf(x(6), x(7))));
        }
        stands_out |= fmaxf(fmaxf(largest[h][0], largest[h][1]), fmaxf(largest[h][2], largest[h][3])) >= floor[h];
      }
    }
    if (!__any_sync(kAllLanes, stands_out)) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (__any_sync(kAllLanes, largest[h][k] >= floor[h])) take(a, scores, h, k, first_key);
      }
    }
  }

  // The four lanes of a row hold neighbouring pairs of keys: their hits become the bits of a word, first keys in the
  // low half, second ones in the high half, and population counts place them.
  __device__ __forceinline__ void take(const WgmmaArguments& a, const float (&scores)[64], int h, int k,
                                       int first_key) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const unsigned before_me = ((1u << lane % 4) - 1) * 0x11u;
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      const float x = at(scores, h, k, 2 * pair), y = at(scores, h, k, 2 * pair + 1);
      // Hits are one or two of a tile: what the others would cost is more than asking.
      if (!__any_sync(kAllLanes, fmaxf(x, y) >= floor[h])) continue;
      const int key = first_key + 32 * k + 8 * pair + 2 * (lane % 4);
      const bool first = x >= cut[h], second = y >= cut[h];
      const unsigned low = __ballot_sync(kAllLanes, first) >> (lane & 28) & 15u;
      const unsigned high = __ballot_sync(kAllLanes, second) >> (lane & 28) & 15u;
      const unsigned hits = low | high << 4;
      const int at_first = count[h] + __popc(hits & before_me), at_second = at_first + (first ? 1 : 0);
      if (first && at_first < room[h]) write(a, place[h] + at_first, key, x);
      if (second && at_second < room[h]) write(a, place[h] + at_second, key + 1, y);
      count[h] += __popc(hits);
      if (y == top[h]) max_key[h] = min(max_key[h], key + 1);
      if (x == top[h]) max_key[h] = min(max_key[h], key);
    }
  }

  __device__ __forceinline__ void write(const WgmmaArguments& a, std::int64_t to, int key, float product) const {
    a.candidates.keys[to] = key;
    a.candidates.scores[to] = product * unit;
  }

  __device__ __forceinline__ void finish(const WgmmaArguments& a, const LaneRows& rows) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int key = min(max_key[h], __shfl_xor_sync(kAllLanes, max_key[h], 1));
      key = min(key, __shfl_xor_sync(kAllLanes, key, 2));
      const int row = rows.row[h];
      if (row < 0 || threadIdx.x % 4 != 0) continue;
      a.candidates.count[row] = count[h];
      a.states.max_key[row] = key;
    }
  }
};

}  // namespace ag::cuda
