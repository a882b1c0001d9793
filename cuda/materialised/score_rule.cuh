// SPDX-License-Identifier: Apache-2.0
// From a raw product q . k to a score in base 2.
#pragma once

#include <cmath>
#include <cstdint>

#include "../device/macros.cuh"
#include "../stages/mask.cuh"
#include "kernels.hpp"

namespace ag::cuda {

// score log2(e) = raw factor, or cap tanh(raw factor) with a softcap. The factor is kept in two floats, so that one
// rounding is all that scaling costs.
struct FloatScoreRule {
  float factor_high = 0, factor_low = 0;
  float cap = 0;  // softcap log2(e); 0: none
};

inline FloatScoreRule in_float(const ScoreRule& exact) {
  const double factor = exact.unit();
  FloatScoreRule rule;
  rule.factor_high = static_cast<float>(factor);
  rule.factor_low = static_cast<float>(factor - static_cast<double>(rule.factor_high));
  rule.cap = static_cast<float>(exact.cap2());
  return rule;
}

// kCapped: there may be a softcap.
template <bool kCapped>
__device__ __forceinline__ float score_log2(const FloatScoreRule& rule, float raw) {
  const float x = fmaf(raw, rule.factor_high, raw * rule.factor_low);
  if constexpr (kCapped) {
    if (rule.cap > 0) return rule.cap * tanhf(x);
  }
  return x;
}

// A finite bias in base 2. It stays finite: only -inf masks.
__device__ __forceinline__ float bias_log2(double bias) { return static_cast<float>(fmax(bias * kLog2E, -1e37)); }

// The score of column c of row r of the batch once more, for the few pairs that become candidates.
__device__ __forceinline__ float candidate_score(const Chunk& chunk, const FloatScoreRule& rule,
                                                 const ScoreMatrix& scores, std::int64_t row, std::int64_t column) {
  const float x = score_log2<true>(rule, scores.data[row * scores.pitch + column]);
  if (chunk.mask.tensor.data == nullptr && chunk.mask.slopes == nullptr) return x;
  const std::int64_t local = row - chunk.first_row, g = local / chunk.queries;
  const std::int64_t query = chunk.query_begin + local - g * chunk.queries;
  return x + bias_log2(pair_bias(chunk.mask, chunk.head_ids[g], query, scores.key_begin + column));
}

}  // namespace ag::cuda
