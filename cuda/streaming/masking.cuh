// SPDX-License-Identifier: Apache-2.0
// What masks do to the scores of a step.
#pragma once

#include <cstdint>

#include "../stages/mask.cuh"
#include "arguments.hpp"
#include "margin.cuh"
#include "row_slots.cuh"
#include "rows.cuh"
#include "shape.hpp"
#include "tiles.cuh"

namespace ag::cuda {

// Keys that some row of a warp may see, and those that all of its rows may see for certain: none when keys may be bad.
struct WarpRange {
  std::int32_t any_begin = 0, any_end = 0;  // empty: none
  std::int32_t all_begin = 0, all_end = 0;
};

template <class S>
__device__ __forceinline__ WarpRange warp_range(const RowTable<S>& table, int first_row, bool may_be_bad) {
  const int row = first_row + static_cast<int>(threadIdx.x) % S::kWarpRows;  // 16 rows: twice each
  constexpr std::int32_t kMost = 0x7FFFFFFF;
  const std::int32_t begin = table.begin[row], end = table.end[row];
  WarpRange range{begin < end ? begin : kMost, end, begin, end};
  for (int step = 16; step > 0; step /= 2) {
    range.any_begin = least(range.any_begin, __shfl_xor_sync(kAllLanes, range.any_begin, step));
    range.any_end = most(range.any_end, __shfl_xor_sync(kAllLanes, range.any_end, step));
    range.all_begin = most(range.all_begin, __shfl_xor_sync(kAllLanes, range.all_begin, step));
    range.all_end = least(range.all_end, __shfl_xor_sync(kAllLanes, range.all_end, step));
  }
  if (may_be_bad) range.all_end = 0;
  return range;
}

// Scores of keys outside their row's range, and of bad keys, become -inf. `bad` has a flag for each of key_count keys,
// or is null.
template <class S>
__device__ __forceinline__ void mask_scores(const std::uint8_t* bad, std::int64_t key_count, const RowTable<S>& table,
                                            int first_row, int first_key, Scores<S>& scores) {
  const float minus_infinity = -__int_as_float(0x7F800000);
  std::uint32_t bad_bits = 0;
  if (bad != nullptr) {
#pragma unroll
    for (int i = 0; i < S::kSlotScores; ++i) {
      const std::int64_t key = static_cast<std::int64_t>(first_key) + key_of_score(i);
      if (key < key_count && bad[key] != 0) bad_bits |= 1u << i;
    }
  }
#pragma unroll
  for (int s = 0; s < S::kSlots; ++s) {
    const int row = first_row + s * 8 + static_cast<int>(threadIdx.x) % 32 / 4;
    const std::uint32_t begin = static_cast<std::uint32_t>(table.begin[row]);
    const std::uint32_t size = static_cast<std::uint32_t>(table.end[row]) - begin;
#pragma unroll
    for (int i = 0; i < S::kSlotScores; ++i) {
      const std::uint32_t key = static_cast<std::uint32_t>(first_key + key_of_score(i));
      if (key - begin >= size || (bad_bits >> i & 1) != 0) slot_score<S>(scores, s, i) = minus_infinity;
    }
  }
}

// General variant: products to base-2 scores, with softcap, slopes and the mask tensor's biases. Keys outside the range
// of their row keep any score: mask_scores comes after.
template <class S>
__device__ __forceinline__ void finish_scores(const Chunk& chunk, float softcap, float unit, const RowTable<S>& table,
                                              int first_row, int first_key, float* s_bias, Scores<S>& scores) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float infinity = __int_as_float(0x7F800000);
  const AnyTensor& tensor = chunk.mask.tensor;
  if (tensor.data != nullptr) {
    // Every element once, neighbours by neighbouring lanes: the tensor may be of any type and have any strides.
    __syncwarp();  // the biases of the last step have been read
#pragma unroll 1
    for (int n = lane; n < S::kWarpRows * S::kStep; n += 32) {
      const int r = first_row + n / S::kStep;
      const std::int32_t key = first_key + n % S::kStep;
      float bias = 0.0f;
      if (key >= table.begin[r] && key < table.end[r]) {
        const std::int64_t g = table.row[r] / chunk.queries;
        const std::int64_t i = table.row[r] - g * chunk.queries + chunk.query_begin;
        const double nats = mask_element_bias(tensor, chunk.head_ids[g], i, key);
        // A finite bias must not become -inf, which masks. NaN, which the host reports, masks as well.
        bias = nats > -infinity ? static_cast<float>(fmin(fmax(nats * kLog2E, -1e37), 1e37)) : -infinity;
      }
      s_bias[n / S::kStep * S::kBiasPitch + n % S::kStep] = bias;
    }
    __syncwarp();
  }
#pragma unroll
  for (int s = 0; s < S::kSlots; ++s) {
#pragma unroll
    for (int i = 0; i < S::kSlotScores; ++i) {
      float& x = slot_score<S>(scores, s, i);
      x = softcap > 0.0f ? tanhf(x * unit) * softcap * static_cast<float>(kLog2E) : x * unit;
    }
  }
  if (chunk.mask.slopes != nullptr) {
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      const int r = first_row + s * 8 + lane / 4;
      const float slope = table.slope[r];
      const float apart = static_cast<float>(table.position[r] - first_key - 2 * (lane % 4));
#pragma unroll
      for (int i = 0; i < S::kSlotScores; ++i) {  // keys as key_of_score() has them
        float& x = slot_score<S>(scores, s, i);
        x = fmaf(-slope, fabsf(apart - static_cast<float>(i / 2 * 8 + i % 2)), x);
      }
    }
  }
  if (tensor.data == nullptr) return;
#pragma unroll
  for (int s = 0; s < S::kSlots; ++s) {
#pragma unroll
    for (int i = 0; i < S::kSlotScores; i += 2) {
      const float2 bias =
          *reinterpret_cast<const float2*>(s_bias + (s * 8 + lane / 4) * S::kBiasPitch + key_of_score(i));
      slot_score<S>(scores, s, i) += bias.x;
      slot_score<S>(scores, s, i + 1) += bias.y;
    }
  }
}

}  // namespace ag::cuda
