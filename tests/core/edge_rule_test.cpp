// SPDX-License-Identifier: Apache-2.0
#include "core/edge_rule.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace ag::test {
namespace {

TEST(EdgeRule, UniformRowsAreDecidedExactly) {
  // m t <= 1 in integers: t = mantissa * 2^-shift.
  for (std::int64_t m = 1; m <= 1024; ++m) {
    const double t = 1.0 / static_cast<double>(m);
    double threshold = t;
    for (int n = 0; n < 3; ++n) threshold = std::nextafter(threshold, 0.0);
    for (int n = 0; n < 7; ++n, threshold = std::nextafter(threshold, 2.0)) {
      int exponent = 0;
      const auto mantissa = static_cast<std::uint64_t>(std::ldexp(std::frexp(threshold, &exponent), 53));
      const bool reaches = mantissa * static_cast<std::uint64_t>(m) <= std::uint64_t{1} << (53 - exponent);
      ASSERT_EQ(is_uniform_row_edge(m, threshold), reaches) << "m " << m << ", neighbour " << n - 3;
    }
  }
}

TEST(EdgeRule, UniformRowsWithoutThresholdAreAllEdges) {
  EXPECT_TRUE(is_uniform_row_edge(1, 0.0));
  EXPECT_TRUE(is_uniform_row_edge(std::int64_t{1} << 31, 0.0));
  EXPECT_TRUE(is_uniform_row_edge(1, 1.0));
  EXPECT_FALSE(is_uniform_row_edge(2, 1.0));
}

TEST(EdgeRule, MarginIsTheLogarithmOfWeightOverThreshold) {
  EXPECT_NEAR(edge_margin(2.0, 5.0, std::log(0.01)), -3.0 - std::log(0.01), 1e-15);
  EXPECT_TRUE(is_edge(edge_margin(2.0, 5.0, std::log(0.01))));
  EXPECT_FALSE(is_edge(edge_margin(2.0, 5.0, std::log(0.1))));
  EXPECT_TRUE(is_edge(0.0)) << "a weight equal to the threshold is an edge";
  EXPECT_FALSE(is_edge(-1e-300));
}

TEST(EdgeRule, NoThresholdMakesEveryScoreAnEdge) {
  EXPECT_TRUE(is_edge(edge_margin(-1e300, 1e300, std::log(0.0))));
  EXPECT_TRUE(is_edge(edge_margin(0.0, 0.0, std::log(0.0))));
}

TEST(EdgeRule, ARowWithoutLogsumexpHasNoEdge) {
  EXPECT_FALSE(is_edge(edge_margin(1.0, HUGE_VAL, std::log(0.5))));
  EXPECT_FALSE(is_edge(std::numeric_limits<double>::quiet_NaN()));
}

TEST(EdgeRule, StoredWeightsCompareExactlyAndInclusively) {
  EXPECT_TRUE(is_matrix_edge(0.1, 0.1));
  EXPECT_FALSE(is_matrix_edge(std::nextafter(0.1, 0.0), 0.1));
  EXPECT_FALSE(is_matrix_edge(0.0999755859375, 0.1)) << "0.1 stored as half";
  EXPECT_TRUE(is_matrix_edge(static_cast<double>(0.1f), 0.1)) << "0.1 stored as float is larger";
  EXPECT_FALSE(is_matrix_edge(std::numeric_limits<double>::quiet_NaN(), 0.0));
}

}  // namespace
}  // namespace ag::test
