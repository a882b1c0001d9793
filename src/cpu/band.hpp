// SPDX-License-Identifier: Apache-2.0
// How far a computed ln(weight / threshold) can be from the exact one. Derived in docs/numerics.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace ag::cpu {

struct BandInput {
  std::int64_t head_dim = 0;
  std::int64_t keys = 0;
  double score_bound = 0;  // |scale| |q| max |k|: no score and no partial sum of one is larger
  double key_bound = 0;    // max |k|
  double softcap = 0;
  double bias_bound = 0;       // |largest allowed score|, with an additive mask or slopes of distance; else 0
  double alibi_bound = 0;      // what distance takes away at most; 0 without slopes
  bool two_biases = false;     // then one may hide how large the other is
  double sum_roundings = 0;    // of one strip's sum
  double score_roundings = 0;  // on the longest path of a score
  double flush = 0;            // what products and factors that are flushed to 0 may add up to, in nats
  double log_cut = 0;          // ln of the smallest weight of interest, or 0
};

// In nats, for working precision T. Every pair with |ln(w / t)| above it is decided right.
template <class T>
double band(const BandInput& in) {
  constexpr double u = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  constexpr double v = static_cast<double>(std::numeric_limits<double>::epsilon()) / 2;
  const double d = static_cast<double>(in.head_dim);
  // Weights that matter lie at most this far (in base 2) below the reference of the sum.
  const double depth =
      std::max(2 * std::log2(std::max<double>(2, static_cast<double>(in.keys))) + 1, 1 - in.log_cut * 1.4427);
  double score = in.score_roundings * u * in.score_bound + in.flush;
  score += d * static_cast<double>(std::numeric_limits<T>::denorm_min()) * (in.key_bound + 1);  // underflow of either
  if (in.softcap > 0) score += 8 * u * in.softcap;                  // tanh to 4 ulp, product
  if (in.bias_bound > 0) score += 2 * u * (in.bias_bound + depth);  // bias rounded, sum rounded
  if (in.alibi_bound > 0) {
    // Slope, distance (twice above 2^24) and sum rounded; a bias is at most a score that matters and its product, and
    // beside a mask's whatever it is.
    const double seen = in.bias_bound + depth + in.score_bound;
    score += u * (in.two_biases ? 6 * in.alibi_bound + seen : 4 * std::min(in.alibi_bound, seen) + seen);
  }
  const double exponential = 0.7 * u * depth + 2 * u;  // argument, polynomial
  return 2 * (score + exponential) + in.sum_roundings * u + 16 * v * (in.score_bound + in.bias_bound + depth + 8);
}

// A band wider than this says that T cannot tell edges from non-edges.
inline constexpr double kWidestBand = 1.0 / 64;

}  // namespace ag::cpu
