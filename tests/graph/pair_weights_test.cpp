// SPDX-License-Identifier: Apache-2.0
#include "graph/pair_weights.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace ag {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Pairs {
  std::vector<double> query, keys;
  std::vector<std::int64_t> wanted;
  PairRow row;
};

Pairs some_pairs(std::int64_t head_dim, std::int64_t key_count, std::int64_t wanted) {
  std::mt19937_64 random(static_cast<std::uint64_t>(head_dim * 1000 + wanted));
  std::normal_distribution<double> normal;
  Pairs pairs;
  for (std::int64_t d = 0; d < head_dim; ++d) pairs.query.push_back(normal(random));
  for (std::int64_t n = 0; n < key_count * head_dim; ++n) pairs.keys.push_back(normal(random));
  for (std::int64_t n = 0; n < wanted; ++n) pairs.wanted.push_back((n * 7) % key_count);
  pairs.row = {pairs.query.data(), pairs.keys.data(), head_dim, 0.3, 0.0, 2.5};
  return pairs;
}

double expected(const PairRow& row, std::int64_t key, double bias) {
  double score = 0;
  for (std::int64_t d = 0; d < row.head_dim; ++d) score += row.query[d] * row.keys[key * row.head_dim + d];
  score *= row.rule.scale;
  if (row.rule.softcap > 0) score = row.rule.softcap * std::tanh(score / row.rule.softcap);
  return std::min(1.0, std::exp(score + bias - row.logsumexp));
}

TEST(PairWeights, AreThoseOfTheFormulaForEverySize) {
  for (const std::int64_t head_dim : {1, 3, 7, 8, 9, 17, 64, 80}) {
    for (const std::int64_t wanted : {0, 1, 3, 4, 5, 63, 64, 65, 130}) {
      Pairs pairs = some_pairs(head_dim, 40, wanted);
      for (const double softcap : {0.0, 1.5}) {
        pairs.row.rule.softcap = softcap;
        std::vector<double> weights(pairs.wanted.size(), -1);
        pair_weights(pairs.row, pairs.wanted, {}, weights);
        for (std::size_t n = 0; n < weights.size(); ++n) {
          const double want = expected(pairs.row, pairs.wanted[n], 0);
          EXPECT_NEAR(weights[n], want, 1e-13 * want) << head_dim << " " << wanted << " " << n;
        }
      }
    }
  }
}

TEST(PairWeights, OfMaskedAndBrokenPairsAreZero) {
  Pairs pairs = some_pairs(16, 40, 40);
  std::vector<double> biases(40, -0.5), weights(40, -1);
  biases[3] = -kInf;
  pairs.keys[static_cast<std::size_t>(pairs.wanted[5]) * 16 + 2] = std::nan("");
  pairs.keys[static_cast<std::size_t>(pairs.wanted[6]) * 16 + 9] = kInf;
  pair_weights(pairs.row, pairs.wanted, biases, weights);
  for (std::size_t n = 0; n < weights.size(); ++n) {
    if (n == 3 || n == 5 || n == 6) {
      EXPECT_EQ(weights[n], 0.0) << n;
    } else {
      const double want = expected(pairs.row, pairs.wanted[n], biases[n]);
      EXPECT_NEAR(weights[n], want, 1e-13 * want) << n;
    }
  }
}

TEST(PairWeights, AreAtMostOneAndVanishWithoutNoise) {
  Pairs pairs = some_pairs(16, 40, 40);
  std::vector<double> weights(40, -1);
  pairs.row.logsumexp = -1e4;  // as a caller may give it
  pair_weights(pairs.row, pairs.wanted, {}, weights);
  for (const double weight : weights) EXPECT_EQ(weight, 1.0);
  pairs.row.logsumexp = 1e4;
  pair_weights(pairs.row, pairs.wanted, {}, weights);
  for (const double weight : weights) EXPECT_EQ(weight, 0.0);
}

}  // namespace
}  // namespace ag
