// SPDX-License-Identifier: Apache-2.0
// Softmax weights of single pairs, in double, from the row's logsumexp: four keys and a vector of values at a time.
#pragma once

#include <cstdint>
#include <span>

#include "../core/score.hpp"

namespace ag {

struct PairRow {
  const double* query = nullptr;  // [head_dim]
  const double* keys = nullptr;   // [Nk][head_dim]
  std::int64_t head_dim = 0;
  ScoreRule rule;
  double logsumexp = 0;
};

// weights[n] is that of keys[n], whose bias is biases[n] (empty: 0). What is not finite, a masked key or one
// that holds NaN and is skipped, weighs 0, and nothing more than 1.
void pair_weights(const PairRow& row, std::span<const std::int64_t> keys, std::span<const double> biases,
                  std::span<double> weights);

}  // namespace ag
