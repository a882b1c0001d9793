// SPDX-License-Identifier: Apache-2.0
// Reductions over the 32 lanes of a warp, all of which take part; every lane gets the result, in the same bits.
#pragma once

#include <cstdint>

#include "macros.cuh"

namespace ag::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

template <class T>
__device__ __forceinline__ T warp_max(T x) {
  for (int step = 16; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, step);
    x = other > x ? other : x;
  }
  return x;
}

// Of the lanes below this one.
__device__ __forceinline__ unsigned lanes_below(int lane) { return (1u << lane) - 1u; }

__device__ __forceinline__ double infinity_f64() { return __longlong_as_double(0x7FF0000000000000LL); }

}  // namespace ag::cuda
