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
inline constexpr int kStep = 32;  // keys whose scores a warp sees at a time

// Keys ascend, except that one ascending run of later keys may come first.
inline bool is_two_runs(const std::vector<std::int32_t>& keys) {
  const auto second = std::is_sorted_until(keys.begin(), keys.end(), std::less_equal<>());
  if (!std::is_sorted(second, keys.end(), std::less_equal<>())) return false;
  return second == keys.end() || keys.back() < keys.front();
}

inline void check_state(const RunPass& run, std::int64_t row, std::int64_t split, std::int32_t begin,
                        std::int32_t end) {
  const RunPass::State state = run.state(split, row);
  const double tolerance = run.band / 2;
  double maximum = kNone;
  for (std::int32_t j = begin; j < end; ++j) maximum = std::max(maximum, run.exact(row, j));
  if (maximum == kNone) {
    EXPECT_EQ(state.sum, 0);
    EXPECT_EQ(state.max_key, -1);
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
  if (!run.c.given_logsumexp || run.c.options.entropy) {
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

inline void check_candidates(const RunPass& run, std::int64_t row, std::int64_t split, std::int32_t begin,
                             std::int32_t end) {
  const RunPass::State state = run.state(split, row);
  const double tolerance = run.band / 2;
  const double log_threshold = std::log(run.c.threshold);
  const double margin = run.band + 2e-4 + tolerance;
  ASSERT_LE(state.count, run.capacity);
  EXPECT_TRUE(is_two_runs(state.keys)) << ::testing::PrintToString(state.keys);
  double best = kNone, best_of_step = kNone;  // seen before the step at hand, and in it
  for (std::size_t n = 0; n < state.keys.size(); ++n) {
    const std::int32_t key = state.keys[n];
    ASSERT_GE(key, begin);
    ASSERT_LT(key, end);
    ASSERT_GT(run.exact(row, key), kNone) << "masked key " << key;
    EXPECT_NEAR(static_cast<double>(state.scores[n]) / kLog2E, run.exact(row, key), tolerance) << "key " << key;
    // No cut is below the largest score so far, less the threshold: no row is full of what cannot matter.
    if (n > 0 && state.keys[n - 1] / kStep != key / kStep) best = std::max(best, best_of_step);
    best_of_step = std::max(best_of_step, run.exact(row, key));
    EXPECT_GE(run.exact(row, key), best + log_threshold - margin) << "key " << key;
    const bool final_cut = run.c.options.two_passes || run.c.given_logsumexp;
    if (final_cut) {
      EXPECT_GE(run.exact(row, key), run.exact_logsumexp(row) + log_threshold - margin);
    }
  }
  const std::set<std::int32_t> found(state.keys.begin(), state.keys.end());
  EXPECT_EQ(found.size(), state.keys.size()) << "a key twice";
  for (std::int32_t j = begin; j < end; ++j) {
    if (run.exact(row, j) == kNone) continue;
    const bool edge = run.exact(row, j) >= run.exact_logsumexp(row) + log_threshold;
    EXPECT_TRUE(!edge || found.count(j) > 0) << "lost key " << j;
  }
}

// Splits are of tiles of the rows that share a block: where they end is the pass's affair, but they ascend, and each
// key belongs to one. With splits only their sum is looked at.
inline void check_split_row(const RunPass& run, std::int64_t row) {
  double maximum = kNone, log_sum = kNone;
  std::int32_t max_key = -1, last = -1;
  std::set<std::int32_t> found;
  for (std::int64_t s = 0; s < run.c.options.splits; ++s) {
    const RunPass::State state = run.state(s, row);
    ASSERT_LE(state.count, run.capacity);
    EXPECT_TRUE(is_two_runs(state.keys));
    for (const std::int32_t key : state.keys) {
      EXPECT_GT(key, last) << "splits ascend";
      EXPECT_TRUE(found.insert(key).second) << "key " << key << " twice";
    }
    if (!found.empty()) last = *found.rbegin();
    if (state.max_key < 0) continue;
    const double high = std::max(log_sum, state.reference + std::log(state.sum));
    const double low = std::min(log_sum, state.reference + std::log(state.sum));
    log_sum = high + std::log1p(std::exp(low - high));
    if (state.maximum > maximum) {
      maximum = state.maximum;
      max_key = state.max_key;
    }
  }
  if (run.exact_logsumexp(row) == kNone) {
    EXPECT_EQ(max_key, -1);
    return;
  }
  EXPECT_NEAR(log_sum, run.exact_logsumexp(row), run.band / 2);
  EXPECT_NEAR(run.exact(row, max_key), maximum, run.band / 2);
  for (std::int32_t j = 0; j < run.c.keys; ++j) {
    if (run.exact(row, j) >= run.exact_logsumexp(row) + std::log(run.c.threshold) && run.exact(row, j) > kNone) {
      EXPECT_TRUE(found.count(j)) << "lost key " << j;
    }
  }
}

inline void check(const PassCase& made) {
  RunPass run(made);
  run.run(cuda::streaming_pass());
  for (std::int64_t row = 0; row < run.rows() && !::testing::Test::HasFailure(); ++row) {
    SCOPED_TRACE(fmt::format("{} D={} head {} query {}", name_of(run.c.dtype), run.c.dim, row / run.c.queries,
                             row % run.c.queries));
    if (run.c.options.splits > 1) {
      check_split_row(run, row);
    } else {
      check_state(run, row, 0, 0, static_cast<std::int32_t>(run.c.keys));
      check_candidates(run, row, 0, 0, static_cast<std::int32_t>(run.c.keys));
    }
  }
}

}  // namespace ag::test
