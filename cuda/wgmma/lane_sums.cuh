// SPDX-License-Identifier: Apache-2.0
// Statistics: the running softmax of a lane's two rows, without a running maximum. Sums are of 2^(score - reference),
// base 2, with a reference that moves only when a sum leaves [2^-4, 2^10): then no term is further above it than where
// float's exponents are exact enough (docs/numerics.md), and ones that matter not further below it. For the entropy
// also sums of 2^x x, x = score - reference.
#pragma once

#include "../device/ptx.cuh"
#include "../streaming/margin.cuh"
#include "../streaming/row_slots.cuh"
#include "items.cuh"

namespace ag::cuda {

inline constexpr float kLeastSum = 0x1p-4f, kMostSum = 0x1p10f;

__device__ __forceinline__ float quad_sum_f32(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

template <bool kEntropy>
struct LaneSums {
  // Of one tile, of this lane's keys of a row.
  struct Terms {
    float sum, weighted;  // of 2^x; of 2^x x, 0 without kEntropy
  };

  float unit;                           // base-2 score of a product of 1, positive
  float minus_reference[2];             // whole numbers
  float sum[2], rest[2];                // Kahan; of this lane's keys
  float weighted[2], weighted_rest[2];  // the same of 2^x x; with kEntropy alone
  float top[2];                         // the largest product of this lane's keys, or of its row's
  bool opened;                          // all rows of the warp that see keys have seen one

  bool sees[2];  // the row sees keys at all

  __device__ __forceinline__ LaneSums(const LaneRows& rows, float of_a_product) : unit(of_a_product), opened(false) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      minus_reference[h] = sum[h] = rest[h] = 0.0f;
      weighted[h] = weighted_rest[h] = 0.0f;
      top[h] = kLowestFloat;
      sees[h] = rows.begin[h] < rows.end[h];
    }
  }

  // Score n of the 32 of row h.
  static __device__ __forceinline__ float at(const float (&scores)[64], int h, int n) {
    return scores[n / 2 * 4 + h * 2 + n % 2];
  }

  // The largest as integers, three at a time: float order is integer order where the largest is positive.
  static __device__ __forceinline__ int largest_bits(const float (&scores)[64], int h) {
    int largest = __float_as_int(at(scores, h, 0));
#pragma unroll
    for (int n = 1; n < 31; n += 2) {
      largest = max(max(largest, __float_as_int(at(scores, h, n))), __float_as_int(at(scores, h, n + 1)));
    }
    return max(largest, __float_as_int(at(scores, h, 31)));
  }

  static __device__ __forceinline__ float largest(const float (&scores)[64], int h) {
    float value = at(scores, h, 0);
#pragma unroll
    for (int n = 1; n < 32; ++n) value = fmaxf(value, at(scores, h, n));
    return value;
  }

  __device__ __forceinline__ Terms terms_of(const float (&scores)[64], int h) const {
    float eight[4], eight_weighted[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float e[8];
      eight_weighted[k] = 0.0f;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float x = fmaf(at(scores, h, 8 * k + j), unit, minus_reference[h]);
        e[j] = exp2_approx(x);
        // Masked: e is 0, and 0 times -inf must not be NaN.
        if constexpr (kEntropy) eight_weighted[k] = fmaf(e[j], fmaxf(x, -200.0f), eight_weighted[k]);
      }
      eight[k] = ((e[0] + e[1]) + (e[2] + e[3])) + ((e[4] + e[5]) + (e[6] + e[7]));
    }
    return {(eight[0] + eight[1]) + (eight[2] + eight[3]),
            (eight_weighted[0] + eight_weighted[1]) + (eight_weighted[2] + eight_weighted[3])};
  }

  __device__ __forceinline__ void add(const float (&scores)[64]) {
    Terms tile[2];
    int bits[2];
    bool leaves = !opened, negative = false;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      bits[h] = largest_bits(scores, h);
      tile[h] = terms_of(scores, h);
      leaves |= !(sum[h] + tile[h].sum < kMostSum);
      negative |= (bits[h] & __float_as_int(top[h])) < 0;
    }
    if (__any_sync(kAllLanes, leaves || negative)) {
      if (__any_sync(kAllLanes, leaves)) {
        settle(scores, tile);
      } else {
        // Integer order is not the order of negative floats.
#pragma unroll
        for (int h = 0; h < 2; ++h) top[h] = fmaxf(top[h], largest(scores, h));
      }
    } else {
#pragma unroll
      for (int h = 0; h < 2; ++h) top[h] = __int_as_float(max(__float_as_int(top[h]), bits[h]));
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      join(tile[h].sum, sum[h], rest[h]);
      if constexpr (kEntropy) join(tile[h].weighted, weighted[h], weighted_rest[h]);
    }
  }

  static __device__ __forceinline__ void join(float term, float& sum, float& rest) {
    const float y = __fsub_rn(term, rest);
    const float t = __fadd_rn(sum, y);
    rest = __fsub_rn(__fsub_rn(t, sum), y);
    sum = t;
  }

  // Moves the references of rows whose sums ask for it, and gives their terms of this tile anew. The lanes of a row
  // share its largest product from here on: one that is not negative spares them all the order of floats.
  __device__ __forceinline__ void settle(const float (&scores)[64], Terms (&tile)[2]) {
    bool all_open = true;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float lane_largest = largest(scores, h);
      top[h] = quad_max(fmaxf(top[h], lane_largest));
      const float total = quad_sum_f32(sum[h] - rest[h] + tile[h].sum);
      const float row_largest = quad_max(lane_largest) * unit;
      const float before = quad_sum_f32(sum[h] - rest[h]);
      // The same in the four lanes of a row. -inf: no key of the row has come yet.
      const float last = before > 0.0f ? log2f(before) - minus_reference[h] : -__int_as_float(0x7F800000);
      const float reference = ceilf(fmaxf(row_largest, last));
      if ((!(total < kMostSum) || total < kLeastSum) && reference > kLowestFloat) {
        const float factor = before > 0.0f ? power_of_two(-minus_reference[h] - reference) : 0.0f;
        if constexpr (kEntropy) {  // x falls by the same for all terms
          const float fall = factor == 0.0f ? 0.0f : reference + minus_reference[h];
          weighted[h] = factor * fmaf(-fall, sum[h], weighted[h]);
          weighted_rest[h] = factor * fmaf(-fall, rest[h], weighted_rest[h]);
        }
        sum[h] *= factor;
        rest[h] *= factor;
        minus_reference[h] = -reference;
        tile[h] = terms_of(scores, h);
      }
      all_open = all_open && (!sees[h] || total > 0.0f || reference > kLowestFloat);
    }
    opened = opened || __all_sync(kAllLanes, all_open) != 0;
  }

  __device__ __forceinline__ void write(const WgmmaArguments& a, const LaneRows& rows) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const double total = quad_sum(static_cast<double>(sum[h]) - static_cast<double>(rest[h]));
      double total_weighted = 0;
      if constexpr (kEntropy) {
        total_weighted = quad_sum(static_cast<double>(weighted[h]) - static_cast<double>(weighted_rest[h]));
      }
      const float largest_product = quad_max(top[h]);
      const int row = rows.row[h];
      if (row < 0 || threadIdx.x % 4 != 0) continue;
      const bool empty = !(largest_product > kLowestFloat);
      a.states.reference[row] = empty ? 0.0 : -static_cast<double>(minus_reference[h]) * kLn2;
      a.states.sum[row] = empty ? 0.0 : total;
      if constexpr (kEntropy) a.states.weighted[row] = empty ? 0.0 : total_weighted * kLn2;
      a.top[row] = largest_product;
    }
  }
};

}  // namespace ag::cuda
