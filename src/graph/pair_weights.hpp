// SPDX-License-Identifier: Apache-2.0
// Softmax weights of pairs, in double, from the logsumexp of their rows: several rows, several keys and a vector of
// values at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/score.hpp"

namespace ag {

struct PairRow {
  const double* query = nullptr;  // [head_dim]
  double logsumexp = 0;
};

struct PairKeys {
  const double* keys = nullptr;  // [Nk][head_dim]
  std::int64_t head_dim = 0;
  ScoreRule rule;
};

// Rows that share what is loaded of a key; of fewer each is alone.
inline constexpr std::size_t kPairRows = 4;

// weights[r * keys.size() + n] is that of rows[r] and keys[n], whose bias stands at the same place (biases empty: 0).
// What is not finite, a masked key or one that holds NaN and is skipped, weighs 0, and nothing more than 1.
void pair_weights(std::span<const PairRow> rows, const PairKeys& of, std::span<const std::int64_t> keys,
                  std::span<const double> biases, std::span<double> weights);

}  // namespace ag
