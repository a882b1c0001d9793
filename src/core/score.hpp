// SPDX-License-Identifier: Apache-2.0
// The one definition of a score, for host and device: from a product q . k to what the softmax is of.
//
//     s = scale q . k;  with a softcap: softcap tanh(s / softcap);  then + bias
//     bias = what the mask tensor adds - slope |position of the query - key|
//
// What follows from it for kernels in single precision, which fold factors into their products, is made here too.
#pragma once

#include <cmath>
#include <cstdint>

#include "edge_rule.hpp"

namespace ag {

inline constexpr double kLog2E = 1.4426950408889634074;
inline constexpr double kLn2 = 0.6931471805599453094;

struct ScoreRule {
  double scale = 1;
  double softcap = 0;  // 0: none

  // In double and natural units. Written with fma, which no compiler fuses with what stands around it.
  ATTNGRAPH_HOST_DEVICE double score(double dot, double bias) const {
    const double scaled = std::fma(scale, dot, 0.0);
    return softcap > 0 ? std::fma(softcap, std::tanh(scaled / softcap), bias) : scaled + bias;
  }

  // The factor that makes a product a base-2 score or, with a softcap, what tanh is taken of; then `cap2` follows.
  ATTNGRAPH_HOST_DEVICE double unit() const { return softcap > 0 ? scale / softcap : scale * kLog2E; }
  ATTNGRAPH_HOST_DEVICE double cap2() const { return softcap * kLog2E; }
};

// Attention with linear biases: what the distance of a key adds. Positions and keys are below kMostAlibiPosition, so
// that distances are exact in double and fit 32 bits.
inline constexpr std::int64_t kMostAlibiPosition = std::int64_t{1} << 30;
// No bias is larger: scores of it leave double some 4 digits of a weight.
inline constexpr double kMostAlibiBias = 1e12;

ATTNGRAPH_HOST_DEVICE inline double alibi_bias(double slope, std::int64_t position, std::int64_t key) {
  const std::int64_t distance = position < key ? key - position : position - key;
  return std::fma(-slope, static_cast<double>(distance), 0.0);
}

}  // namespace ag
