// SPDX-License-Identifier: Apache-2.0
// The running softmax of the rows that a thread holds scores of.
//
// A quad is four lanes that hold the scores of the same rows, two keys of every eight each. Sums are kept per lane and
// joined at the end; references are the same in all four lanes.
#pragma once

#include <cstdint>

#include "../device/ptx.cuh"
#include "../device/warp.cuh"
#include "shape.hpp"

namespace ag::cuda {

inline constexpr float kLowestFloat = -3.402823466e38f;  // "no score yet": below every score, above -inf
inline constexpr float kHighestFloat = 3.402823466e38f;  // above every score

// The reference moves when a score exceeds it by more than this many powers of two: sums stay below 2^(10 + 31).
inline constexpr float kHeadroom = 10.0f;

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
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

template <class S>
struct RowSlots {
  float reference[S::kSlots];  // integer-valued power of two
  float limit[S::kSlots];      // a score above it moves the reference
  float sum[S::kSlots];        // sum - rest is the lane's sum of 2^(score - reference), without the tile at hand
  float rest[S::kSlots];       // what rounding has added to `sum` too much (Kahan)
  float tile[S::kSlots];       // sum of the tile at hand
  float top[S::kSlots];        // largest score that the lane has seen
  // sum of 2^x x, as above
  float weighted[S::kWeighs ? S::kSlots : 1], weighted_rest[S::kWeighs ? S::kSlots : 1],
      weighted_tile[S::kWeighs ? S::kSlots : 1];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      reference[s] = sum[s] = rest[s] = tile[s] = 0.0f;
      top[s] = limit[s] = kLowestFloat;
      if constexpr (S::kWeighs) weighted[s] = weighted_rest[s] = weighted_tile[s] = 0.0f;
    }
  }

  // The tile's sum, of at most kKeys / 4 terms, joins the lane's: Kahan's summation, so that the row's error does not
  // grow with its length. When the tile outweighs the sum the correction itself is rounded, by less than 2^-24 of a sum
  // that has just doubled: together below 2^-22 of the last one.
  __device__ __forceinline__ void end_tile(bool entropy) {
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      add(tile[s], sum[s], rest[s]);
      if constexpr (S::kWeighs) {
        if (entropy) add(weighted_tile[s], weighted[s], weighted_rest[s]);
      }
    }
  }

  // Of slot s to the largest score of its quad's step, when that is above the limit. A factor of a power of two is
  // exact, so moving the reference costs no accuracy. `unit` makes scores base 2.
  __device__ __forceinline__ void follow(int s, float largest, float unit, float inverse_unit, bool entropy) {
    largest = quad_max(largest);
    if (!(largest > limit[s])) return;
    const float to = rintf(largest * unit);
    const float factor = power_of_two(fminf(reference[s] - to, 0.0f));  // above 0 only before the first key: sums are 0
    if constexpr (S::kWeighs) {
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
    limit[s] = (to + kHeadroom) * inverse_unit;
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
