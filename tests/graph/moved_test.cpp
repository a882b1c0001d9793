// SPDX-License-Identifier: Apache-2.0
// Head by head and pair by pair: the bounds hold the truth, and meet where everything was kept.
#include "graph/moved.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/error.hpp"
#include "graphs.hpp"

namespace ag {
namespace {

using testing::ElementsAre;

using Matrix = std::vector<std::vector<double>>;

// Causal softmax rows; b differs from a a little or a lot.
Matrix random_rows(unsigned seed, double spread, std::size_t n) {
  std::mt19937 random(seed);
  Matrix rows(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j <= i; ++j)
      sum += rows[i][j] = std::exp(spread * static_cast<double>(random() % 1000) / 1000);
    for (double& w : rows[i]) w /= sum;
  }
  return rows;
}

EdgeList kept(const Matrix& rows, double threshold, const char* text) {
  GraphBuilder builder(DType::kF64);
  builder.slice({0, 2, 1}, 0, static_cast<std::int64_t>(rows.size()));
  for (const auto& row : rows) {
    std::vector<KeyWeight> edges;
    for (std::size_t j = 0; j < row.size(); ++j)
      if (row[j] >= threshold && row[j] > 0) edges.push_back({static_cast<std::int32_t>(j), row[j]});
    builder.row(edges);
  }
  return builder.build({{{"threshold", text}}, {}});
}

double variation(const Matrix& a, const Matrix& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < a.size(); ++j) sum += std::abs(a[i][j] - b[i][j]) / 2;
  return sum / static_cast<double>(a.size());
}

double divergence(const Matrix& a, const Matrix& b) {
  double sum = 0;
  const auto term = [](double w, double m) { return w > 0 ? w * std::log(w / m) / 2 : 0; };
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < a.size(); ++j) {
      const double m = (a[i][j] + b[i][j]) / 2;
      sum += term(a[i][j], m) + term(b[i][j], m);
    }
  return sum / static_cast<double>(a.size());
}

TEST(DiffHeads, BoundsHoldTheTruth) {
  for (const double spread : {0.5, 4.0, 12.0}) {
    for (unsigned seed = 0; seed < 10; ++seed) {
      const Matrix a = random_rows(seed, spread, 24), b = random_rows(seed + (seed % 2) * 100, spread * 1.1, 24);
      const auto figures = [&](double ta, const char* text_a, double tb, const char* text_b) {
        return diff_heads(kept(a, ta, text_a), kept(b, tb, text_b), {}).at(0);
      };
      const HeadDifference whole = figures(0, "0", 0, "0");
      EXPECT_EQ(whole.id, (SliceId{0, 2, 1}));
      EXPECT_EQ(whole.queries, 24);
      EXPECT_NEAR(whole.variation_min, variation(a, b), 1e-12);
      EXPECT_NEAR(whole.variation_max, variation(a, b), 1e-12);
      EXPECT_NEAR(whole.divergence_min, divergence(a, b), 1e-12);
      EXPECT_NEAR(whole.divergence_max, divergence(a, b), 1e-12);
      for (const auto& part : {figures(0.05, "0.05", 0.05, "0.05"), figures(0.02, "0.02", 0.3, "0.3")}) {
        EXPECT_LE(part.variation_min, variation(a, b) + 1e-12);
        EXPECT_GE(part.variation_max, variation(a, b) - 1e-12);
        EXPECT_LE(part.divergence_min, divergence(a, b) + 1e-12);
        EXPECT_GE(part.divergence_max, divergence(a, b) - 1e-12);
        EXPECT_LE(part.variation_max, 1);
      }
    }
  }
}

TEST(DiffHeads, OfAGraphWithItselfCanBeNothing) {
  const Matrix a = random_rows(3, 6, 16);
  const HeadDifference d = diff_heads(kept(a, 0.05, "0.05"), kept(a, 0.05, "0.05"), {}).at(0);
  EXPECT_EQ(d.variation_min, 0);
  EXPECT_EQ(d.common, d.edges_a);
  EXPECT_NEAR(d.variation_max, 1 - d.kept_a, 1e-12);
}

TEST(DiffHeads, FollowsTheAlignment) {
  GraphBuilder first(DType::kF64), second(DType::kF64);
  first.slice({0, 0, 0}, 0, 3).row({{0, 1}}).row({{0, 0.5}, {1, 0.5}}).row({{0, 0.2}, {1, 0.3}, {2, 0.5}});
  // The second has a position before all others, and lacks the first graph's position 1.
  second.slice({0, 0, 0}, 0, 3).row({{0, 1}}).row({{0, 0.5}, {1, 0.5}}).row({{0, 0.1}, {1, 0.2}, {2, 0.7}});
  const std::int64_t alignment[] = {1, -1, 2};
  const HeadDifference d = diff_heads(first.build(), second.build(), alignment).at(0);
  EXPECT_EQ(d.queries, 2);
  // Row 0: all on the same position against half of it. Row 2: 0.2 -> 0.2, 0.3 gone, 0.5 -> 0.7, 0.1 new.
  EXPECT_NEAR(d.variation_min, (0.5 + 0.3) / 2, 1e-12);
  EXPECT_NEAR(d.variation_max, (0.5 + 0.3) / 2, 1e-12);
  const std::vector<Moved> moved = diff_pairs(first.build(), second.build(), alignment, 10);
  ASSERT_EQ(moved.size(), 6u);
  EXPECT_EQ(moved[0].change, 0.5);
  EXPECT_EQ(moved[0].key, -1);
  EXPECT_EQ(moved[0].key_b, 0);
  EXPECT_TRUE(std::isnan(moved[0].before));
  EXPECT_EQ(moved[1].change, -0.5);
  EXPECT_EQ(moved[2].key, 1);
  EXPECT_EQ(moved[2].key_b, -1);
  EXPECT_EQ(moved[2].change, -0.3);
  EXPECT_NEAR(moved[3].change, 0.2, 1e-12);
}

TEST(DiffPairs, TakesWhatIsUnknownForTheLeast) {
  GraphBuilder first(DType::kF64), second(DType::kF64);
  first.slice({0, 0, 0}, 0, 4).row({{1, 0.6}, {2, 0.35}});
  second.slice({0, 0, 0}, 0, 4).row({{2, 0.8}});
  const Metadata facts{{{"threshold", "0.1"}}, {}};
  const std::vector<Moved> moved = diff_pairs(first.build(facts), second.build(facts), {}, 2);
  ASSERT_EQ(moved.size(), 2u);
  EXPECT_NEAR(moved[0].change, -0.5, 1e-12);  // 0.6 to below 0.1
  EXPECT_TRUE(std::isnan(moved[0].after));
  EXPECT_NEAR(moved[1].change, 0.45, 1e-12);
}

TEST(DiffHeads, RefusesWhatCannotBeCompared) {
  const EdgeList graph = random_graph(1);
  GraphBuilder elsewhere, twice;
  elsewhere.slice({5, 5, 5}, 0, 1).row({});
  twice.slice({0, 3, 0}, 0, 9).row({}).slice({0, 3, 0}, 1, 9).row({});
  EXPECT_THROW(diff_heads(graph, elsewhere.build(), {}), Error);
  EXPECT_THROW(diff_heads(graph, twice.build(), {}), Error);
  const std::int64_t falling[] = {1, 0}, too_short[] = {0, 1};
  EXPECT_THROW(diff_heads(graph, graph, falling), Error);
  EXPECT_THROW(diff_heads(graph, graph, too_short), Error);
}

std::vector<std::string> letters(const std::string& text) {
  std::vector<std::string> out;
  for (const char c : text) out.emplace_back(1, c);
  return out;
}

TEST(Align, IsALongestCommonSubsequence) {
  EXPECT_THAT(align(letters("abcabba"), letters("abcabba")), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(align(letters("abc"), letters("xabyc")), ElementsAre(1, 2, 4));
  EXPECT_THAT(align(letters("abc"), letters("")), ElementsAre(-1, -1, -1));
  EXPECT_TRUE(align({}, letters("abc")).empty());
  std::mt19937 random(9);
  for (int round = 0; round < 200; ++round) {
    std::string a, b;
    for (auto n = random() % 12; n > 0; --n) a += static_cast<char>('a' + random() % 3);
    for (auto n = random() % 12; n > 0; --n) b += static_cast<char>('a' + random() % 3);
    std::vector<std::vector<std::size_t>> length(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = a.size(); i-- > 0;)
      for (std::size_t j = b.size(); j-- > 0;)
        length[i][j] = a[i] == b[j] ? length[i + 1][j + 1] + 1 : std::max(length[i + 1][j], length[i][j + 1]);
    std::int64_t last = -1;
    std::size_t matched = 0;
    const std::vector<std::int64_t> positions = align(letters(a), letters(b));
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (positions[i] < 0) continue;
      EXPECT_GT(positions[i], last);
      last = positions[i];
      EXPECT_EQ(a[i], b[static_cast<std::size_t>(last)]);
      ++matched;
    }
    EXPECT_EQ(matched, length[0][0]) << a << ' ' << b;
  }
}

TEST(Align, StopsBeforeItTakesAllMemory) {
  EXPECT_THROW(align(letters("aaaa"), letters("bbbb"), 7), Error);
  EXPECT_NO_THROW(align(letters("aaaa"), letters("bbbb"), 8));
}

}  // namespace
}  // namespace ag
