// SPDX-License-Identifier: Apache-2.0
// cuda_streaming's cuts: sums, thresholds, splits, top-k, what needs double, against plain loops in double.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "score_pass_checks.hpp"

namespace ag::test {
namespace {

using cuda::streaming_pass;

// The heavy key comes first, so that the cut is as high as it will be when edges that barely are some arrive.
TEST(StreamingCuts, EdgesJustAboveTheThresholdAreKept) {
  // At 2e-5 the sum is whole before the key comes: a margin of the wrong sign would lose it.
  for (const double threshold : {0.3, 0.11, 0.05, 0.013, 0.002, 2e-5}) {
    PassCase c;
    c.dtype = DType::kF32;
    c.dim = 32;
    c.queries = 2;
    c.keys = 1500;
    c.scale = 1;
    c.threshold = threshold;
    double logsumexp = 0;
    for (int n = 0; n < 50; ++n) logsumexp = std::log(1 + 2 * std::exp(logsumexp + std::log(threshold) + 1e-4));
    fill_scores(c, [&](std::int64_t j) {
      const double light = j == 600 || j == 1203 ? logsumexp + std::log(threshold) + 1e-4 : -40;
      return j == 1490 ? 0 : light;
    });
    RunPass run(c);
    ASSERT_GT(run.exact(0, 600), run.exact_logsumexp(0) + std::log(threshold));
    check(c);
  }
}

// Scores are whole powers of two: a sum of 32,768 a lane, thousands of terms below its last bit, and then a
// key beside which all of it is 2^-21 of what it was, the correction of the sum too.
TEST(StreamingCuts, MovingTheReferenceMovesAllOfTheSum) {
  PassCase c;
  c.dim = 32;
  c.queries = 3;
  c.keys = 4000;
  c.scale = std::log(2.0);
  // The last tile comes first: its key 3990 sets the reference.
  fill_scores(c, [](std::int64_t j) { return j < 128 ? 10 : j == 3990 ? 0 : j == 3820 ? 21 : j < 200 ? -15 : -14; });
  check(c);
  c.options.entropy = true;
  check(c);
}

// Every pair is kept: the cut is below all of them.
TEST(StreamingCuts, WithoutAThresholdEveryAllowedPairIsFound) {
  PassCase c;
  c.queries = 37;
  c.keys = 200;
  c.causal = true;
  c.query_offset = 150;
  c.threshold = 0;
  fill_random(c, 11, 2);
  check(c);
  RunPass run(c);
  run.run(streaming_pass());
  for (std::int64_t row = 0; row < run.rows(); ++row) EXPECT_EQ(run.state(row).count, 151 + row);
}

TEST(StreamingCuts, SmallThresholdsSinksAndEntropy) {
  PassCase c;
  c.heads = 2;
  c.queries = 45;
  c.keys = 333;
  c.threshold = 0.004;
  c.causal = true;
  c.query_offset = 290;
  fill_random(c, 12, 2);
  check(c);
  c.sinks = {1.5, kNone};
  check(c);
  c.options.entropy = true;
  check(c);
}

TEST(StreamingCuts, SinksRaiseTheCut) {
  PassCase c;
  c.heads = 2;
  c.queries = 30;
  c.keys = 150;
  c.sinks = {3.0, kNone};
  fill_random(c, 13, 2);
  RunPass run(c);
  run.run(streaming_pass());
  std::int64_t with = 0, without = 0;
  for (std::int64_t row = 0; row < run.rows(); ++row) {
    check_candidates(run, row, 0, 150);
    (row < 30 ? with : without) += run.state(row).count;
  }
  EXPECT_LT(with, without);
}

TEST(StreamingCuts, AGivenLogsumexpIsTheCut) {
  PassCase c;
  c.queries = 50;
  c.keys = 260;
  c.causal = true;
  c.query_offset = -3;  // rows without keys: a given logsumexp of -inf
  c.given_logsumexp = true;
  fill_random(c, 14, 2);
  check(c);
  c.options.entropy = true;
  check(c);
}

TEST(StreamingCuts, SplitsShareTheKeys) {
  for (const std::int32_t splits : {2, 3, 16}) {
    PassCase c;
    c.heads = 2;
    c.queries = 9;
    c.keys = 700;
    c.options.splits = splits;
    c.options.entropy = splits == 3;
    fill_random(c, 15, 2);
    check(c);
    c.causal = true;
    c.query_offset = 120;
    c.window = 90;
    check(c);
  }
}

// e^700 and e^-700 of one row in different splits: one of them is nothing to the sum, and neither overflows.
TEST(StreamingCuts, SplitsFarApartAreMergedWithoutOverflow) {
  PassCase c;
  c.dim = 32;
  c.queries = 2;
  c.keys = 600;
  c.scale = 1;
  c.options.splits = 4;
  c.options.entropy = true;
  fill_scores(c, [](std::int64_t j) { return j < 150 ? -700 : j == 320 ? 700 : j == 310 ? 699 : 0; });
  check(c);
}

TEST(StreamingCuts, TopKKeepsTheBestAndFewOthers) {
  for (const std::int64_t keys : {900, 3000}) {
    for (const std::int32_t splits : {1, 3}) {
      PassCase c;
      c.queries = 5;
      c.keys = keys;
      c.causal = true;
      c.query_offset = keys - 8;
      c.threshold = 0;
      c.options.top_k = 5;
      c.options.splits = splits;
      fill_random(c, 16, 2);
      RunPass run(c);
      run.run(streaming_pass());
      for (std::int64_t row = 0; row < run.rows(); ++row) {
        const RunPass::State state = run.state(row);
        EXPECT_LE(state.count, 20) << "the fifth best group has few keys above its best";
        std::vector<std::int32_t> order(static_cast<std::size_t>(c.keys));
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + 5, order.end(),
                          [&](std::int32_t a, std::int32_t b) { return run.exact(row, a) > run.exact(row, b); });
        order.resize(5);
        for (const std::int32_t key : order) EXPECT_THAT(state.keys, ::testing::Contains(key));
      }
    }
  }
}

// 200 equals: none of them may be dropped, and a row of 64 has no room for them. Nothing is written beyond it.
TEST(StreamingCuts, ARowThatDoesNotFitSaysSo) {
  PassCase c;
  c.dim = 32;
  c.queries = 6;
  c.keys = 200;
  c.threshold = 0;
  c.options.top_k = 5;
  c.capacity = 64;
  fill_constant(c, 1, 1);
  RunPass run(c);
  run.run(streaming_pass());
  for (std::int64_t row = 0; row < run.rows(); ++row) EXPECT_EQ(run.state(row).count, 200);
}

// No row of weights that sum to 1 has more candidates than candidate_room says, however close they are to the cut.
TEST(StreamingCuts, TheRoomOfARowIsEnough) {
  for (const double threshold : {0.5, 0.1, 0.0125}) {
    PassCase c;
    c.dim = 32;
    c.queries = 3;
    c.keys = 300;
    c.scale = 1;
    c.threshold = threshold;
    fill_constant(c, 1, -4);
    for (std::int64_t j = 0; j < static_cast<std::int64_t>(1 / threshold); ++j) {  // all of the mass, evenly
      for (std::int64_t d = 0; d < c.dim; ++d) c.k[static_cast<std::size_t>((3 * j + 1) * c.dim + d)] = 1;
    }
    check(c);
  }
}

TEST(StreamingCuts, BiasesThatFloatCannotHoldAskForDouble) {
  for (const double bias : {-3.0, -1e9}) {
    PassCase c;
    c.queries = 3;
    c.keys = 70;
    c.mask_dtype = DType::kF32;
    c.band = 1e-4;  // what is known before the biases
    fill_random(c, 18, 2);
    c.mask.assign(static_cast<std::size_t>(c.queries * c.keys), bias);
    RunPass run(c);
    run.run(streaming_pass());
    EXPECT_EQ(run.in_double, bias == -1e9);
  }
}

// Scores of single precision, from operands of very different sizes. Without the low parts they would be off by 2^-11
// of a product.
TEST(StreamingCuts, SplitProductsKeepSinglePrecision) {
  PassCase c;
  c.dtype = DType::kF32;
  c.dim = 128;
  c.queries = 16;
  c.keys = 64;
  c.scale = 1;
  fill_random(c, 17, 1e-4);
  for (double& x : c.k) x *= 1e4;
  RunPass run(c);
  run.run(streaming_pass());
  for (std::int64_t row = 0; row < run.rows(); ++row) {
    const RunPass::State state = run.state(row);
    EXPECT_NEAR(state.maximum, run.exact(row, state.max_key), 3e-5);
    EXPECT_NEAR(state.reference + std::log(state.sum), run.exact_logsumexp(row), 3e-5);
  }
}

}  // namespace
}  // namespace ag::test
