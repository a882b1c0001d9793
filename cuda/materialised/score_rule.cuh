// SPDX-License-Identifier: Apache-2.0
// From a raw product q . k to a score in base 2.
#pragma once

#include <cmath>
#include <cstdint>

#include "../device/macros.cuh"
#include "../stages/mask.cuh"
#include "kernels.hpp"

namespace ag::cuda {

inline constexpr double kLog2E = 1.4426950408889634074;
inline constexpr double kLn2 = 0.6931471805599453094;

// score log2(e) = raw factor, or cap tanh(raw factor) with a softcap. The factor is kept in two floats, so that one
// rounding is all that scaling costs.
struct ScoreRule {
  float factor_high = 0, factor_low = 0;
  float cap = 0;  // softcap log2(e); 0: none
};

inline ScoreRule score_rule(double scale, double softcap) {
  const double factor = softcap > 0 ? scale / softcap : scale * kLog2E;
  ScoreRule rule;
  rule.factor_high = static_cast<float>(factor);
  rule.factor_low = static_cast<float>(factor - static_cast<double>(rule.factor_high));
  rule.cap = static_cast<float>(softcap * kLog2E);
  return rule;
}

// kCapped: there may be a softcap.
template <bool kCapped>
__device__ __forceinline__ float score_log2(const ScoreRule& rule, float raw) {
  const float x = fmaf(raw, rule.factor_high, raw * rule.factor_low);
  if constexpr (kCapped) {
    if (rule.cap > 0) return rule.cap * tanhf(x);
  }
  return x;
}

// A mask's finite bias in base 2. It stays finite: only -inf masks.
__device__ __forceinline__ float bias_log2(double bias) { return static_cast<float>(fmax(bias * kLog2E, -1e37)); }

// The score of column c of row r of the batch once more, for the few pairs that become candidates.
__device__ __forceinline__ float pair_score(const Chunk& chunk, const ScoreRule& rule, const ScoreMatrix& scores,
                                            std::int64_t row, std::int64_t column) {
  const float x = score_log2<true>(rule, scores.data[row * scores.pitch + column]);
  if (chunk.mask.tensor.data == nullptr) return x;
  const std::int64_t local = row - chunk.first_row, g = local / chunk.queries;
  const std::int64_t query = chunk.query_begin + local - g * chunk.queries;
  return x + bias_log2(mask_element_bias(chunk.mask.tensor, chunk.head_ids[g], query, scores.key_begin + column));
}

}  // namespace ag::cuda
