// SPDX-License-Identifier: Apache-2.0
// cuda_streaming's pass against plain loops in double: states within rounding, and candidates that hold every edge.
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "score_pass_case.hpp"

namespace ag::test {
namespace {

using cuda::streaming_pass;

constexpr double kLog2E = 1.4426950408889634;
constexpr int kStep = 32;  // keys whose scores a warp sees at a time

// Keys ascend, except that one ascending run of later keys may come first.
bool is_two_runs(const std::vector<std::int32_t>& keys) {
  const auto second = std::is_sorted_until(keys.begin(), keys.end(), std::less_equal<>());
  if (!std::is_sorted(second, keys.end(), std::less_equal<>())) return false;
  return second == keys.end() || keys.back() < keys.front();
}

void check_state(const RunPass& run, std::int64_t row, std::int64_t split, std::int32_t begin, std::int32_t end) {
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

void check_candidates(const RunPass& run, std::int64_t row, std::int64_t split, std::int32_t begin, std::int32_t end) {
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
void check_split_row(const RunPass& run, std::int64_t row) {
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

void check(const PassCase& made) {
  RunPass run(made);
  run.run(streaming_pass());
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

TEST(AttentionEdges, FindsStatesAndCandidatesUnderEverySchedule) {
  PassCase c;
  c.queries = 70;
  c.keys = 300;
  c.causal = true;
  c.query_offset = 230;
  fill_random(c, 1, 2);
  for_every_schedule([&] { check(c); });
}

TEST(AttentionEdges, TakesEveryHeadSize) {
#if defined(ATTNGRAPH_EMULATION)
  emu::reset_counters();
#endif
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    for (const std::int64_t dim : {1, 32, 48, 64, 80, 96, 100, 128, 192, 256}) {
      PassCase c;
      c.dtype = dtype;
      c.dim = dim;
      c.queries = 19;
      c.keys = 75;
      c.scale = 1 / std::sqrt(static_cast<double>(dim));
      fill_random(c, static_cast<std::uint64_t>(dim), 2);
      check(c);
      c.options.entropy = true;  // the general variant
      check(c);
    }
  }
#if defined(ATTNGRAPH_EMULATION)
  EXPECT_GT(emu::counters().ldmatrix, 0u);
  EXPECT_EQ(emu::counters().ldmatrix_conflicts, 0u) << "the swizzle of some head size lets two rows share a bank";
#endif
}

TEST(AttentionEdges, ManyRowsOfManyHeadsShareBlocks) {
  PassCase c;
  c.heads = 3;
  c.queries = 61;  // 183 rows: two blocks, and one that is not full
  c.keys = 131;
  c.query_begin = 5;
  c.causal = true;
  c.query_offset = 40;
  fill_random(c, 3, 2);
  check(c);
}

TEST(AttentionEdges, CausalFromTheFirstQuery) {
  PassCase c;
  c.heads = 2;
  c.queries = c.keys = 160;
  c.causal = true;
  fill_random(c, 4, 2);
  check(c);
  c.query_offset = -20;  // the first queries see nothing
  check(c);
}

TEST(AttentionEdges, WindowsAndLengths) {
  for (const bool causal : {true, false}) {
    PassCase c;
    c.queries = 90;
    c.keys = 400;
    c.query_offset = 300;
    c.window = 37;
    c.key_count = 371;
    c.causal = causal;
    fill_random(c, 5, 2);
    check(c);
    c.key_count = 0;
    check(c);
  }
}

TEST(AttentionEdges, BadKeysAndBadQueriesAreMasked) {
  PassCase c;
  c.queries = 20;
  c.keys = 140;
  c.bad_keys = {0, 31, 64, 65, 139};
  c.bad_queries = {3};
  fill_random(c, 6, 2);
  check(c);
}

TEST(AttentionEdges, MaskTensorsOfEveryType) {
  for (const DType dtype : {DType::kBool, DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    PassCase c;
    c.heads = 2;
    c.queries = 40;
    c.query_begin = 3;
    c.keys = 90;
    c.causal = true;
    c.query_offset = 45;
    c.mask_dtype = dtype;
    fill_random(c, 7, 2);
    Random random(8);
    for (std::int64_t n = 0; n < c.heads * (c.query_begin + c.queries) * c.keys; ++n) {
      const double kind = random.uniform();
      const double bias = kind < 0.2 ? kNone : kind < 0.3 ? lowest_of(dtype) : random.normal();
      c.mask.push_back(dtype == DType::kBool ? static_cast<double>(kind < 0.7) : bias);
    }
    std::fill_n(c.mask.begin() + 5 * c.keys, c.keys, dtype == DType::kBool ? 0 : kNone);  // a row without keys
    check(c);
  }
}

TEST(AttentionEdges, SoftcapAndEntropy) {
  for (const double scale : {0.125, -0.125, 1.0}) {
    PassCase c;
    c.dtype = DType::kBF16;
    c.queries = 33;
    c.keys = 200;
    c.scale = scale;
    c.softcap = 5;
    c.options.entropy = true;
    fill_random(c, 9, 3);
    check(c);
    c.softcap = 0;
    check(c);
  }
}

TEST(AttentionEdges, ScalesOfEitherSignAndZero) {
  for (const double scale : {-0.125, 0.0, 1e-20}) {
    for (const std::int64_t dim : {64, 256}) {  // queries in registers, in shared memory
      PassCase c;
      c.dim = dim;
      c.queries = 20;
      c.keys = 80;
      c.scale = scale;
      c.threshold = scale == 0.0 ? 1.0 / 80 : 0.01;
      fill_random(c, 10, 2);
      check(c);
    }
  }
}

// Exact numbers: every score is a whole multiple of 1/8.
TEST(AttentionEdges, TheSmallestOfEqualKeysIsTheMaximum) {
  PassCase c;
  c.dim = 32;
  c.queries = 10;
  c.keys = 500;
  c.threshold = 0.001;
  c.q.assign(static_cast<std::size_t>(c.queries * c.dim), 1.0);
  c.k.assign(static_cast<std::size_t>(c.keys * c.dim), 1.0);
  check(c);
  for (const std::int64_t j : {450, 270, 499, 130}) {  // equals, in tiles that are visited in another order
    for (std::int64_t d = 0; d < c.dim; ++d) c.k[static_cast<std::size_t>(j * c.dim + d)] = 2;
  }
  check(c);
}

// The heavy key comes first, so that the cut is as high as it will be when edges that barely are some arrive.
TEST(AttentionEdges, EdgesJustAboveTheThresholdAreKept) {
  for (const double threshold : {0.3, 0.11, 0.05, 0.013, 0.002}) {
    PassCase c;
    c.dtype = DType::kF32;
    c.dim = 32;
    c.queries = 2;
    c.keys = 1500;
    c.scale = 1;
    c.threshold = threshold;
    c.q.assign(static_cast<std::size_t>(c.queries * c.dim), 0.0);
    c.k.assign(static_cast<std::size_t>(c.keys * c.dim), 0.0);
    for (std::int64_t i = 0; i < c.queries; ++i) c.q[static_cast<std::size_t>(i * c.dim)] = 1;
    double logsumexp = 0;
    for (int n = 0; n < 50; ++n) logsumexp = std::log(1 + 2 * std::exp(logsumexp + std::log(threshold) + 1e-4));
    for (std::int64_t j = 0; j < c.keys; ++j) {
      const double light = j == 600 || j == 1203 ? logsumexp + std::log(threshold) + 1e-4 : -40;
      c.k[static_cast<std::size_t>(j * c.dim)] = j == 1490 ? 0 : light;
    }
    RunPass run(c);
    ASSERT_GT(run.exact(0, 600), run.exact_logsumexp(0) + std::log(threshold));
    check(c);
  }
}

// Scores are whole powers of two: a sum of 32,768 a lane, thousands of terms below its last bit, and then a
// key beside which all of it is 2^-21 of what it was, the correction of the sum too.
TEST(AttentionEdges, MovingTheReferenceMovesAllOfTheSum) {
  PassCase c;
  c.dim = 32;
  c.queries = 3;
  c.keys = 4000;
  c.scale = std::log(2.0);
  c.q.assign(static_cast<std::size_t>(c.queries * c.dim), 0.0);
  c.k.assign(static_cast<std::size_t>(c.keys * c.dim), 0.0);
  for (std::int64_t i = 0; i < c.queries; ++i) c.q[static_cast<std::size_t>(i * c.dim)] = 1;
  for (std::int64_t j = 0; j < c.keys; ++j) {
    // The last tile comes first: its key 3990 sets the reference.
    c.k[static_cast<std::size_t>(j * c.dim)] = j < 128 ? 10 : j == 3990 ? 0 : j == 3820 ? 21 : j < 200 ? -15 : -14;
  }
  check(c);
  c.options.entropy = true;
  check(c);
}

// Scores that rise with the key, and room for all of them: visited from the left, every pair would be a candidate.
TEST(AttentionEdges, RecentKeysAreVisitedFirst) {
  PassCase c;
  c.dim = 32;
  c.queries = 2;
  c.keys = 2000;
  c.scale = 1;
  c.threshold = 0.05;
  c.capacity = 2000;
  c.q.assign(static_cast<std::size_t>(c.queries * c.dim), 0.0);
  c.k.assign(static_cast<std::size_t>(c.keys * c.dim), 0.0);
  for (std::int64_t i = 0; i < c.queries; ++i) c.q[static_cast<std::size_t>(i * c.dim)] = 1;
  for (std::int64_t j = 0; j < c.keys; ++j) c.k[static_cast<std::size_t>(j * c.dim)] = static_cast<double>(j) / 64;
  check(c);
  RunPass run(c);
  run.run(streaming_pass());
  // A step of 32 at most before the first cut; then those within ln 20 of the largest, 64 a unit.
  EXPECT_LE(run.state(0, 0).count, 32 + 3 * 64 + 64);
}

// Scores that rise with the key pass every cut: buffers are compacted again and again.
TEST(AttentionEdges, FullBuffersAreCompacted) {
  PassCase c;
  c.dim = 32;
  c.queries = 37;
  c.keys = 2000;
  c.threshold = 0.05;  // capacity of 20 edges and a step
  c.scale = 1;
  Random random(11);
  for (std::int64_t n = 0; n < c.queries * c.dim; ++n) c.q.push_back(n % c.dim == 0 ? 1.0 : 0.0);
  for (std::int64_t n = 0; n < c.keys * c.dim; ++n) {
    c.k.push_back(n % c.dim == 0 ? std::floor(static_cast<double>(n / c.dim) / 3) / 16 : random.normal());
  }
  check(c);
  c.options.two_passes = true;
  check(c);
  c.options.two_passes = false;
  c.threshold = 0;  // every pair is a candidate
  check(c);
}

TEST(AttentionEdges, TwoPassesKnowTheFinalCut) {
  PassCase c;
  c.heads = 2;
  c.queries = 45;
  c.keys = 333;
  c.threshold = 0.004;
  c.causal = true;
  c.query_offset = 290;
  c.options.two_passes = true;
  fill_random(c, 12, 2);
  check(c);
  c.sinks = {1.5, kNone};
  check(c);
  c.options.entropy = true;
  check(c);
}

TEST(AttentionEdges, SinksRaiseTheCut) {
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
    check_candidates(run, row, 0, 0, 150);
    (row < 30 ? with : without) += run.state(0, row).count;
  }
  EXPECT_LT(with, without);
}

TEST(AttentionEdges, AGivenLogsumexpIsTheCut) {
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

TEST(AttentionEdges, SplitsShareTheKeys) {
  for (const bool two_passes : {false, true}) {
    for (const std::int32_t splits : {2, 3, 16}) {
      PassCase c;
      c.heads = 2;
      c.queries = 9;
      c.keys = 700;
      c.options.splits = splits;
      c.options.two_passes = two_passes;
      fill_random(c, 15, 2);
      check(c);
      c.causal = true;
      c.query_offset = 120;
      c.window = 90;
      check(c);
    }
  }
}

TEST(AttentionEdges, TopKDropsWhatCannotBeAmongThem) {
  PassCase c;
  c.queries = 21;
  c.keys = 900;
  c.threshold = 0;
  c.options.top_k = 5;
  c.capacity = 64;
  fill_random(c, 16, 2);
  RunPass run(c);
  run.run(streaming_pass());
  for (std::int64_t row = 0; row < run.rows(); ++row) {
    const RunPass::State state = run.state(0, row);
    ASSERT_LE(state.count, run.capacity);
    EXPECT_TRUE(is_two_runs(state.keys));
    std::vector<std::int32_t> order(static_cast<std::size_t>(c.keys));
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + 5, order.end(),
                      [&](std::int32_t a, std::int32_t b) { return run.exact(row, a) > run.exact(row, b); });
    order.resize(5);
    for (const std::int32_t key : order) EXPECT_THAT(state.keys, ::testing::Contains(key));
  }
}

// 200 equals: none of them may be dropped, and a row of 64 has no room for them. Nothing is written beyond it.
TEST(AttentionEdges, ARowThatDoesNotFitSaysSo) {
  PassCase c;
  c.dim = 32;
  c.queries = 6;
  c.keys = 200;
  c.threshold = 0;
  c.options.top_k = 5;
  c.capacity = 64;
  c.q.assign(static_cast<std::size_t>(c.queries * c.dim), 1.0);
  c.k.assign(static_cast<std::size_t>(c.keys * c.dim), 1.0);
  RunPass run(c);
  run.run(streaming_pass());
  for (std::int64_t row = 0; row < run.rows(); ++row) EXPECT_EQ(run.state(0, row).count, 200);
}

// Scores of single precision, from operands of very different sizes. Without the low parts they would be off by 2^-11
// of a product.
TEST(AttentionEdges, SplitProductsKeepSinglePrecision) {
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
    const RunPass::State state = run.state(0, row);
    EXPECT_NEAR(state.maximum, run.exact(row, state.max_key), 3e-5);
    EXPECT_NEAR(state.reference + std::log(state.sum), run.exact_logsumexp(row), 3e-5);
  }
}

}  // namespace
}  // namespace ag::test
