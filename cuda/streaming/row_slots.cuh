// SPDX-License-Identifier: Apache-2.0
// The running softmax of the rows that a thread holds scores of.
//
// A quad is four lanes that hold the scores of the same rows, two keys of every eight each. Sums are kept per lane and
// joined at the end; references, cuts and maxima are the same in all four lanes. What is rarely used is kept once: that
// of slot s by lane s of each quad.
#pragma once

#include <cstdint>

#include "../common/ptx.cuh"
#include "../common/warp.cuh"
#include "arguments.hpp"
#include "shape.hpp"

namespace ag::cuda {

inline constexpr float kLowestFloat = -3.402823466e38f;  // "no cut" and "no maximum yet": below every score, above -inf

// The reference moves when a score exceeds it by more than this many powers of two: sums stay below 2^(10 + 31).
inline constexpr float kHeadroom = 10.0f;

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

__device__ __forceinline__ double quad_sum(double x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

__device__ __forceinline__ std::uint32_t quad_or(std::uint32_t x) {
  x |= __shfl_xor_sync(kAllLanes, x, 1);
  return x | __shfl_xor_sync(kAllLanes, x, 2);
}

// 2^n for an integer-valued n <= 0, exact; 0 below 2^-126.
__device__ __forceinline__ float power_of_two(float n) {
  return n < -126.0f ? 0.0f : __int_as_float((static_cast<int>(n) + 127) << 23);
}

// A lower bound of log2(x) for positive normal x, at most 0.0861 below it: the exponent plus the mantissa's fraction,
// the chord of a concave curve.
__device__ __forceinline__ float log2_below(float x) {
  return fmaf(static_cast<float>(__float_as_int(x)), 0x1p-23f, -127.0f) - 0x1p-16f;  // the conversion may round up
}

template <class S>
struct RowSlots {
  float reference[S::kSlots];  // integer-valued power of two
  float sum[S::kSlots];        // sum - rest is the lane's sum of 2^(score - reference), without the tile at hand
  float rest[S::kSlots];       // what rounding has added to `sum` too much (Kahan)
  float tile[S::kSlots];       // sum of the tile at hand
  float top[S::kSlots];        // largest product seen
  float cut[S::kSlots];        // smallest product that is a candidate: only rises

  // Of slot s in lane s of each quad:
  float margin;  // base 2: how far below the threshold a computed score may be that an exact one reaches
  int max_key;
  int count;  // candidates, stored or not

  // sum of 2^x x, as above
  float weighted[S::kGeneral ? S::kSlots : 1], weighted_rest[S::kGeneral ? S::kSlots : 1],
      weighted_tile[S::kGeneral ? S::kSlots : 1];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      reference[s] = sum[s] = rest[s] = tile[s] = 0.0f;
      top[s] = cut[s] = kLowestFloat;
      if constexpr (S::kGeneral) weighted[s] = weighted_rest[s] = weighted_tile[s] = 0.0f;
    }
    margin = 0.0f;
    max_key = -1;
    count = 0;
  }

  // The tile's sum, of at most kKeys / 4 terms, joins the lane's: Kahan's summation, so that the row's error does not
  // grow with its length. When the tile outweighs the sum the correction itself is rounded, by less than 2^-24 of a sum
  // that has just doubled: together below 2^-22 of the last one.
  __device__ __forceinline__ void end_tile(bool entropy) {
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      add(tile[s], sum[s], rest[s]);
      if constexpr (S::kGeneral) {
        if (entropy) add(weighted_tile[s], weighted[s], weighted_rest[s]);
      }
    }
  }

  // All of slot s: a factor of a power of two is exact, so moving the reference costs no accuracy.
  __device__ __forceinline__ void move_reference(int s, float to, bool entropy) {
    const float factor = power_of_two(fminf(reference[s] - to, 0.0f));  // above 0 only before the first key: sums are 0
    if constexpr (S::kGeneral) {
      if (entropy) {  // x falls by the same for all terms
        const float fall = factor == 0.0f ? 0.0f : to - reference[s];
        weighted[s] = factor * fmaf(-fall, sum[s], weighted[s]);
        weighted_rest[s] = factor * fmaf(-fall, rest[s], weighted_rest[s]);
        weighted_tile[s] = factor * fmaf(-fall, tile[s], weighted_tile[s]);
      }
    }
    sum[s] *= factor;
    rest[s] *= factor;
    tile[s] *= factor;
    reference[s] = to;
  }

 private:
  __device__ static __forceinline__ void add(float& term, float& sum, float& rest) {
    const float y = term - rest;
    const float next = sum + y;
    rest = (next - sum) - y;
    sum = next;
    term = 0.0f;
  }
};

}  // namespace ag::cuda
