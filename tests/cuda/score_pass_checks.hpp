// SPDX-License-Identifier: Apache-2.0
// What a run of cuda_streaming's pass must have left for each row: states within rounding, candidates that hold every
// edge, in order.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <vector>

#include "score_pass_case.hpp"

namespace ag::test {

inline constexpr double kLog2E = 1.4426950408889634;
inline void check_state(const RunPass& run, std::int64_t row, std::int32_t begin, std::int32_t end) {
  const RunPass::State state = run.state(row);
  const double tolerance = run.band / 2;
  double maximum = kNone;
  for (std::int32_t j = begin; j < end; ++j) maximum = std::max(maximum, run.exact(row, j));
  if (maximum == kNone) {
    EXPECT_EQ(state.sum, 0);
    EXPECT_EQ(state.maximum, kNone);
    EXPECT_EQ(state.count, 0);
    return;
  }
  EXPECT_NEAR(state.maximum, maximum, tolerance);
  ASSERT_GE(state.max_key, begin);
  ASSERT_LT(state.max_key, end);
  EXPECT_NEAR(run.exact(row, state.max_key), maximum, tolerance);
  for (std::int32_t j = begin; j < state.max_key; ++j) {
    EXPECT_LT(run.exact(row, j), maximum) << "an equal of smaller key " << j;
  }
  {
    double sum = 0, weighted = 0;
    for (std::int32_t j = begin; j < end; ++j) {
      if (run.exact(row, j) == kNone) continue;
      const double x = run.exact(row, j) - state.reference;
      sum += std::exp(x);
      weighted += std::exp(x) * x;
    }
    EXPECT_NEAR(std::log(state.sum), std::log(sum), tolerance);
    if (run.c.options.entropy) {
      EXPECT_NEAR(state.weighted / state.sum, weighted / sum, tolerance * (2 + std::abs(weighted / sum)));
    }
    EXPECT_LE(std::abs(state.maximum - state.reference), 11 * 0.7) << "the reference is near the maximum";
  }
}

inline void check_candidates(const RunPass& run, std::int64_t row, std::int32_t begin, std::int32_t end) {
  const RunPass::State state = run.state(row);
  const double tolerance = run.band / 2;
  const double log_threshold = std::log(run.c.threshold);
  const double margin = run.band + 2e-4 + tolerance;
  ASSERT_LE(state.count, run.capacity);
  if (run.c.options.splits == 1) {
    EXPECT_TRUE(std::is_sorted(state.keys.begin(), state.keys.end()));
  }
  for (std::size_t n = 0; n < state.keys.size(); ++n) {
    const std::int32_t key = state.keys[n];
    ASSERT_GE(key, begin);
    ASSERT_LT(key, end);
    ASSERT_GT(run.exact(row, key), kNone) << "masked key " << key;
    EXPECT_NEAR(static_cast<double>(state.scores[n]) / kLog2E, run.exact(row, key), tolerance) << "key " << key;
    EXPECT_GE(run.exact(row, key), run.exact_logsumexp(row) + log_threshold - margin) << "key " << key;
  }
  const std::set<std::int32_t> found(state.keys.begin(), state.keys.end());
  EXPECT_EQ(found.size(), state.keys.size()) << "a key twice";
  for (std::int32_t j = begin; j < end; ++j) {
    if (run.exact(row, j) == kNone) continue;
    const bool edge = run.exact(row, j) >= run.exact_logsumexp(row) + log_threshold;
    EXPECT_TRUE(!edge || found.count(j) > 0) << "lost key " << j;
  }
}

inline void check(const PassCase& made) {
  RunPass run(made);
  run.run(cuda::streaming_pass());
  ASSERT_FALSE(run.in_double);
  for (std::int64_t row = 0; row < run.rows() && !::testing::Test::HasFailure(); ++row) {
    SCOPED_TRACE(fmt::format("{} D={} head {} query {}", name_of(run.c.dtype), run.c.dim, row / run.c.queries,
                             row % run.c.queries));
    check_state(run, row, 0, static_cast<std::int32_t>(run.c.keys));
    check_candidates(run, row, 0, static_cast<std::int32_t>(run.c.keys));
  }
}

}  // namespace ag::test
