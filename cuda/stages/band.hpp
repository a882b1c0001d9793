// SPDX-License-Identifier: Apache-2.0
// How far a decision made with single-precision scores can be from the exact one, row by row. Derived in
// docs/numerics.md, "The band of the CUDA backends".
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../../src/core/dtype.hpp"
#include "../device/macros.cuh"

namespace ag::cuda {

// A band wider than this, in nats, says that float cannot tell edges from others: such heads run in double.
inline constexpr double kWidestBand = 1.0 / 64;

// What a score pass promises: it adds at most so many terms in float before the sum goes on in double.
inline constexpr double kFloatTerms = 256;

struct BandInput {
  std::int64_t head_dim = 0;
  std::int64_t keys = 0;
  DType dtype = DType::kF32;  // of the operands: f32 is split; f64: the pass is rows_f64, whatever the problem's type
  double scale = 1;
  double key_norm = 1;  // max |k| of the head; the model of 1 serves any by with_key_norm()
  double softcap = 0;
  bool additive_mask = false;
  double alibi_bound = 0;  // what distance takes from a score at most; 0: there are no slopes
  double log_cut = 0;      // ln of the smallest weight of interest; 0: none
};

// Plain numbers, passed to kernels by value; all in nats.
struct BandModel {
  double per_norm = 0;   // of a score, per |q|: S / |q| is |scale| max|k|
  double constant = 0;   // of a score and its exponential, whatever the norm
  double sum = 0;        // of the row's sum
  double bias_unit = 0;  // of a score, per nat of bias: 0 without an additive mask and slopes
  double depth = 0;      // nats below the row's maximum at which weights still matter

  // A pair whose computed score is lower than (logsumexp + ln t) - band is no edge, whatever rounding did to either.
  // Without what biases add, which is known with the row's maximum: 2 bias_error().
  __host__ __device__ double band(double q_norm) const { return 2 * (per_norm * q_norm + constant) + sum; }

  // Of a finished row: a margin in double, with the logsumexp of the pass, is right beyond it. The score is exact to
  // double there, so that the pass's error counts once.
  __host__ __device__ double eps(double q_norm, double maximum) const {
    return (band(q_norm) + sum) / 2 * (1 + 1e-6) + bias_error(maximum);
  }

  // Biases have moved a row of this maximum further than float can hold.
  __host__ __device__ bool too_wide(double maximum) const { return 2 * bias_error(maximum) > kWidestBand; }

  // Of the logsumexp: scores that matter are at most so far below the maximum.
  __host__ __device__ double bias_error(double maximum) const {
    return bias_unit > 0 ? bias_unit * ((maximum < 0 ? -maximum : maximum) + depth) : 0;
  }

  // The model of another largest key: what depends on it is proportional.
  __host__ __device__ BandModel with_key_norm(double key_norm) const {
    BandModel other = *this;
    other.per_norm *= key_norm;
    return other;
  }
};

inline BandModel make_band_model(const BandInput& in) {
  constexpr double u = 0x1p-24, v = 0x1p-53;
  const bool in_double = in.dtype == DType::kF64;
  const double w = in_double ? v : u;
  const double d = static_cast<double>(in.head_dim);
  const double score_per_norm = std::abs(in.scale) * in.key_norm;  // S / |q|
  BandModel model;
  // Base 2, as in the kernels: weights that matter lie at most this far below the reference of the sum.
  const double depth2 =
      std::max(2 * std::log2(std::max<double>(2, static_cast<double>(in.keys))) + 1, 1 - in.log_cut * 1.4427);
  model.depth = depth2;
  double roundings = 0;  // of a score, in units of w S
  if (in_double) {
    roundings = d / 8 + 8;
  } else {
    const double products = in.dtype == DType::kF32 ? 3 : 1;
    roundings = products * 48 * std::ceil(d / 16) + 4;
    if (in.dtype == DType::kF32) roundings += 16;  // 2^-22 for each operand and for the product that is left out
  }
  model.per_norm = roundings * w * score_per_norm;
  model.constant = (0.7 * depth2 + 6) * w;
  if (in.softcap > 0) model.constant += 16 * w * in.softcap;
  if (in.dtype == DType::kF32) {
    // Low parts below the smallest f16: 2^-25 of an operand that is scaled to 2^9 or more.
    model.per_norm += 2 * 0x1p-34 * std::sqrt(d) * score_per_norm;
  }
  if (in.additive_mask) model.bias_unit = 2 * w;
  if (in.alibi_bound > 0) {
    // Slope, distance (twice) and sum rounded. A bias is at most a score that matters and its product; beside those of
    // a mask it may be anything.
    model.bias_unit += (in.additive_mask ? 1 : 5) * w;
    model.per_norm += (in.additive_mask ? 1 : 5) * w * score_per_norm;
    if (in.additive_mask) model.constant += 6 * w * in.alibi_bound;
  }
  model.sum = (in_double ? static_cast<double>(in.keys) + 8 : kFloatTerms) * w;
  // What is done in double after the pass.
  model.per_norm += (16 + d / 8) * v * score_per_norm;
  model.constant += 16 * v * (depth2 + 8);
  return model;
}

}  // namespace ag::cuda
