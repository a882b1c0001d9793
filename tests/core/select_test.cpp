// SPDX-License-Identifier: Apache-2.0
#include "core/select.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/random.hpp"

namespace ag::test {
namespace {

std::vector<std::int32_t> selected(const Selection& selection, std::vector<RowEdge> edges) {
  select_row(selection, edges);
  std::vector<std::int32_t> keys;
  for (const RowEdge& edge : edges) keys.push_back(edge.key);
  return keys;
}

using Keys = std::vector<std::int32_t>;

TEST(SelectRow, WithoutConditionsOrdersByKey) {
  EXPECT_EQ(selected({}, {{0.1, 9}, {0.5, 2}, {0.4, 5}}), (Keys{2, 5, 9}));
  EXPECT_EQ(selected({}, {}), Keys{});
}

TEST(SelectRow, TopKKeepsTheHeaviestAndSmallerKeysAmongEquals) {
  const std::vector<RowEdge> row{{0.1, 0}, {0.3, 1}, {0.1, 2}, {0.3, 3}, {0.2, 4}};
  EXPECT_EQ(selected({.top_k = 1}, row), (Keys{1}));
  EXPECT_EQ(selected({.top_k = 2}, row), (Keys{1, 3}));
  EXPECT_EQ(selected({.top_k = 4}, row), (Keys{0, 1, 3, 4}));
  EXPECT_EQ(selected({.top_k = 5}, row), (Keys{0, 1, 2, 3, 4}));
  EXPECT_EQ(selected({.top_k = 100}, row), (Keys{0, 1, 2, 3, 4}));
}

TEST(SelectRow, MassKeepsTheSmallestSetThatReachesIt) {
  const std::vector<RowEdge> row{{0.125, 0}, {0.25, 1}, {0.125, 2}, {0.5, 3}};
  EXPECT_EQ(selected({.mass = 0.1}, row), (Keys{3}));
  EXPECT_EQ(selected({.mass = 0.5}, row), (Keys{3}));
  EXPECT_EQ(selected({.mass = 0.51}, row), (Keys{1, 3}));
  EXPECT_EQ(selected({.mass = 0.8}, row), (Keys{0, 1, 3}));
  EXPECT_EQ(selected({.mass = 1.0}, row), (Keys{0, 1, 2, 3}));
  EXPECT_EQ(selected({.mass = 1.0}, {{0.3, 4}}), (Keys{4})) << "a mass out of reach keeps all";
}

TEST(SelectRow, WeightsBelowZeroBringNoPrefixNearerToTheMass) {
  EXPECT_EQ(selected({.mass = 0.7}, {{0.6, 0}, {0.3, 1}, {-0.4, 2}}), (Keys{0, 1}));
  EXPECT_EQ(selected({.mass = 0.89}, {{0.6, 0}, {-0.1, 1}, {0.3, 2}, {0.0, 3}}), (Keys{0, 2}));
  EXPECT_EQ(selected({.mass = 0.95}, {{0.6, 0}, {0.3, 1}, {-0.4, 2}}), (Keys{0, 1, 2})) << "out of reach: all";
  EXPECT_EQ(selected({.mass = 0.1}, {{-0.6, 0}, {-0.3, 1}}), (Keys{0, 1}));
}

TEST(SelectRow, TheOrderOfAddingDoesNotDecide) {
  // 1 + 2^-53 + 2^-53 is more than 1, and double loses both small ones when they come last.
  EXPECT_EQ(selected({.mass = 1 + 0x1p-52}, {{1.0, 0}, {0x1p-53, 1}, {0x1p-53, 2}, {0x1p-60, 3}}), (Keys{0, 1, 2}));
}

TEST(SelectRow, ConditionsIntersect) {
  Random random(3);
  for (int round = 0; round < 500; ++round) {
    std::vector<RowEdge> row;
    const std::int64_t count = random.below(30);
    for (std::int64_t j = 0; j < count; ++j) {
      row.push_back({static_cast<double>(random.below(8)) / 64, static_cast<std::int32_t>(j)});
    }
    const Selection both{0, 1 + random.below(12), 0.01 + random.uniform(), 0};
    const Keys a = selected({.top_k = both.top_k}, row), b = selected({.mass = both.mass}, row);
    Keys expected;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(expected));
    EXPECT_EQ(selected(both, row), expected);
  }
}

TEST(MassCut, NothingBelowItIsEverNeeded) {
  Random random(4);
  for (int round = 0; round < 500; ++round) {
    std::vector<RowEdge> row;
    double sum = 0;
    const std::int64_t count = 1 + random.below(40);
    for (std::int64_t j = 0; j < count; ++j) {
      row.push_back({random.uniform() * random.uniform(), static_cast<std::int32_t>(j)});
      sum += row.back().weight;
    }
    for (RowEdge& edge : row) edge.weight /= sum;
    const double mass = 0.05 + 0.9 * random.uniform();
    const double cut = mass_cut(mass, count);
    EXPECT_GE(cut, 0.0);
    std::vector<RowEdge> kept;
    std::copy_if(row.begin(), row.end(), std::back_inserter(kept), [&](const RowEdge& e) { return e.weight >= cut; });
    EXPECT_EQ(selected({.mass = mass}, kept), selected({.mass = mass}, row));
  }
  EXPECT_EQ(mass_cut(0.5, 0), 0.0);
  EXPECT_EQ(mass_cut(1.0, 10), 0.0) << "all of the mass may need every key";
}

}  // namespace
}  // namespace ag::test
