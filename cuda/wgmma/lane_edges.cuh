// SPDX-License-Identifier: Apache-2.0
// Edges: products against cuts that are known, of a lane's two rows. A block owns its rows, so that counts live in
// registers, and a row's candidates are written in the order of keys; without their scores (Candidates::scored), since
// nearly all of them are edges.
#pragma once

#include "items.cuh"

namespace ag::cuda {

struct LaneEdges {
  float cut[2], top[2];
  float floor[2];  // of what is looked at: the smaller of both; +inf: nothing
  int count[2];    // of the row, the same in its four lanes
  int max_key[2];  // of this lane's keys: the first whose product is the row's largest
  int room[2];
  std::int64_t place[2];
  bool positive;  // all floors of the warp are: integer order is float order

  __device__ __forceinline__ LaneEdges(const WgmmaArguments& a, const LaneRows& rows) {
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
    unsigned hits[2] = {0, 0};  // bit b: key 8 (b / 2) + b % 2 of the tile, and the lane's own shift
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (!__any_sync(kAllLanes, largest[h][k] >= floor[h])) continue;
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          if (at(scores, h, k, n) >= cut[h]) hits[h] |= 1u << (8 * k + n);
        }
        if (!__any_sync(kAllLanes, largest[h][k] == top[h])) continue;
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          const int key = first_key + 2 * (static_cast<int>(threadIdx.x) % 4) + 32 * k + n / 2 * 8 + n % 2;
          if (at(scores, h, k, n) == top[h]) max_key[h] = min(max_key[h], key);
        }
      }
      if (__any_sync(kAllLanes, hits[h] != 0)) write_keys(a, h, hits[h], first_key);
    }
  }

  // The four lanes of a row hold neighbouring pairs of keys. Each writes its own hits where as many hits of its row as
  // stand before them leave room: they know them from each other's bits.
  __device__ __forceinline__ void write_keys(const WgmmaArguments& a, int h, unsigned hits, int first_key) {
    const int own = static_cast<int>(threadIdx.x) % 4;
    unsigned others[3];
    int all = __popc(hits);
#pragma unroll
    for (int x = 1; x < 4; ++x) {
      others[x - 1] = __shfl_xor_sync(kAllLanes, hits, x);
      all += __popc(others[x - 1]);
    }
    for (unsigned left = hits; left != 0; left &= left - 1) {
      const int bit = __ffs(static_cast<int>(left)) - 1;
      const unsigned below = (1u << (bit & ~1)) - 1, through = below << 2 | 3u;  // pairs before this one; and itself
      int at = count[h] + __popc(hits & ((1u << bit) - 1));
#pragma unroll
      for (int x = 1; x < 4; ++x) at += __popc(others[x - 1] & ((own ^ x) < own ? through : below));
      if (at < room[h]) a.candidates.keys[place[h] + at] = first_key + 2 * own + bit / 2 * 8 + bit % 2;
    }
    count[h] += all;
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
