// SPDX-License-Identifier: Apache-2.0
#include "graph/pair_weights.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

namespace ag {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

struct Pairs {
  std::vector<double> query, keys;
  std::vector<std::int64_t> wanted;
  std::vector<PairRow> rows;
  PairKeys of;
};

Pairs some_pairs(std::int64_t head_dim, std::int64_t key_count, std::int64_t wanted, std::size_t rows = 1) {
  std::mt19937_64 random(static_cast<std::uint64_t>(head_dim * 1000 + wanted));
  std::normal_distribution<double> normal;
  Pairs pairs;
  for (std::int64_t d = 0; d < head_dim * static_cast<std::int64_t>(rows); ++d) pairs.query.push_back(normal(random));
  for (std::int64_t n = 0; n < key_count * head_dim; ++n) pairs.keys.push_back(normal(random));
  for (std::int64_t n = 0; n < wanted; ++n) pairs.wanted.push_back((n * 7) % key_count);
  for (std::size_t r = 0; r < rows; ++r)
    pairs.rows.push_back({pairs.query.data() + r * static_cast<std::size_t>(head_dim), 2.5 + static_cast<double>(r)});
  pairs.of = {pairs.keys.data(), head_dim, {0.3, 0.0}};
  return pairs;
}

double expected(const Pairs& pairs, std::size_t row, std::int64_t key, double bias) {
  const PairKeys& of = pairs.of;
  double score = 0;
  for (std::int64_t d = 0; d < of.head_dim; ++d) score += pairs.rows[row].query[d] * of.keys[key * of.head_dim + d];
  score *= of.rule.scale;
  if (of.rule.softcap > 0) score = of.rule.softcap * std::tanh(score / of.rule.softcap);
  return std::min(1.0, std::exp(score + bias - pairs.rows[row].logsumexp));
}

TEST(PairWeights, AreThoseOfTheFormulaForEverySize) {
  for (const std::int64_t head_dim : {1, 3, 7, 8, 9, 17, 64, 80}) {
    for (const std::int64_t wanted : {0, 1, 3, 4, 5, 63, 64, 65, 130}) {
      for (const std::size_t rows : {std::size_t{1}, std::size_t{3}, kPairRows, kPairRows + 2}) {
        Pairs pairs = some_pairs(head_dim, 40, wanted, rows);
        std::vector<double> biases(rows * pairs.wanted.size());
        for (std::size_t n = 0; n < biases.size(); ++n) biases[n] = -0.01 * static_cast<double>(n);
        for (const double softcap : {0.0, 1.5}) {
          for (const bool biased : {false, true}) {
            pairs.of.rule.softcap = softcap;
            std::vector<double> weights(biases.size(), -1);
            pair_weights(pairs.rows, pairs.of, pairs.wanted,
                         biased ? std::span<const double>(biases) : std::span<const double>(), weights);
            for (std::size_t n = 0; n < weights.size(); ++n) {
              const std::size_t row = n / pairs.wanted.size(), key = n % pairs.wanted.size();
              const double want = expected(pairs, row, pairs.wanted[key], biased ? biases[n] : 0);
              ASSERT_NEAR(weights[n], want, 1e-13 * want) << head_dim << " " << wanted << " " << row << " " << key;
            }
          }
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
  pair_weights(pairs.rows, pairs.of, pairs.wanted, biases, weights);
  for (std::size_t n = 0; n < weights.size(); ++n) {
    if (n == 3 || n == 5 || n == 6) {
      EXPECT_EQ(weights[n], 0.0) << n;
    } else {
      const double want = expected(pairs, 0, pairs.wanted[n], biases[n]);
      EXPECT_NEAR(weights[n], want, 1e-13 * want) << n;
    }
  }
}

TEST(PairWeights, AreAtMostOneAndVanishWithoutNoise) {
  Pairs pairs = some_pairs(16, 40, 40);
  std::vector<double> weights(40, -1);
  pairs.rows[0].logsumexp = -1e4;  // as a caller may give it
  pair_weights(pairs.rows, pairs.of, pairs.wanted, {}, weights);
  for (const double weight : weights) EXPECT_EQ(weight, 1.0);
  pairs.rows[0].logsumexp = 1e4;
  pair_weights(pairs.rows, pairs.of, pairs.wanted, {}, weights);
  for (const double weight : weights) EXPECT_EQ(weight, 0.0);
}

}  // namespace
}  // namespace ag
