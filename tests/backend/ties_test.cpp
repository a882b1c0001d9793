// SPDX-License-Identifier: Apache-2.0
// Weights that equal the threshold exactly, keys that weigh the same, and rows without keys.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/compare.hpp"
#include "support/inputs.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

class Ties : public EveryBackend {};
ATTNGRAPH_EVERY_BACKEND(Ties);

// One head, `queries` equal queries and the keys given by a single number each.
class Scores {
 public:
  Scores(std::int64_t queries, const std::vector<double>& scores, DType dtype = DType::kF32)
      : q_(dtype, {1, 1, queries, 1}, std::vector<double>(static_cast<std::size_t>(queries), 1.0)),
        k_(dtype, {1, 1, static_cast<std::int64_t>(scores.size()), 1}, scores) {
    problem.q = q_.view();
    problem.k = k_.view();
    problem.heads = {0};
    problem.query_end = queries;
  }
  Problem problem;

 private:
  Tensor q_, k_;
};

std::vector<std::int32_t> first_keys(std::int64_t count) {
  std::vector<std::int32_t> keys(static_cast<std::size_t>(count));
  for (std::size_t n = 0; n < keys.size(); ++n) keys[n] = static_cast<std::int32_t>(n);
  return keys;
}

// Whether m * t <= 1 in exact arithmetic, for t near 1 / m and m up to 64: t is a 53-bit integer times a power of two.
bool uniform_weight_reaches(std::int64_t m, double t) {
  int exponent = 0;
  const auto mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(t, &exponent), 53));
  return mantissa * m <= std::int64_t{1} << (53 - exponent);
}

TEST_P(Ties, EqualKeysReachOneOverTheirNumberAndNothingAboveIt) {
  for (std::int64_t m = 1; m <= 64; ++m) {
    SCOPED_TRACE(m);
    Scores row(1, std::vector<double>(static_cast<std::size_t>(m), 0.7));
    const double t = 1.0 / static_cast<double>(m);
    for (const double threshold : {std::nextafter(t, 0.0), t, std::nextafter(t, 2.0)}) {
      if (threshold > 1) continue;
      row.problem.selection.threshold = threshold;
      const EdgeList graph = run_extract(backend(), row.problem);
      EXPECT_EQ(graph.edge_count(), uniform_weight_reaches(m, threshold) ? m : 0) << fmt::format("t = {:a}", threshold);
    }
    // t itself may be rounded to either side of 1/m; its neighbours are not.
    EXPECT_TRUE(uniform_weight_reaches(m, std::nextafter(t, 0.0)));
    EXPECT_FALSE(uniform_weight_reaches(m, std::nextafter(t, 2.0)));
  }
}

TEST_P(Ties, EqualKeysAmongMaskedOnes) {
  // Row i sees keys 0..i of the same score.
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    Scores rows(80, std::vector<double>(80, -1.25), dtype);
    rows.problem.mask.causal = true;
    rows.problem.selection.threshold = 1.0 / 16;
    const EdgeList graph = run_extract(backend(), rows.problem);
    for (std::int64_t i = 0; i < 80; ++i) {
      const auto n = static_cast<std::size_t>(i);
      EXPECT_EQ(graph.offsets[n + 1] - graph.offsets[n], i < 16 ? i + 1 : 0) << name_of(dtype) << " query " << i;
      EXPECT_NEAR(graph.rows.logsumexp[n], -1.25 + std::log(static_cast<double>(i + 1)), 1e-6);
      EXPECT_EQ(graph.rows.max_key[n], 0);
    }
    for (std::size_t e = 0; e < 16; ++e) EXPECT_FLOAT_EQ(graph.weights_f32[120 + e], 1.0f / 16);
  }
}

TEST_P(Ties, ThresholdOneNeedsASingleKey) {
  Scores rows(3, {5.0, 5.0, -80.0});
  rows.problem.mask.causal = true;
  rows.problem.selection.threshold = 1.0;
  const EdgeList graph = run_extract(backend(), rows.problem);
  EXPECT_EQ(graph.offsets, (std::vector<std::int64_t>{0, 1, 1, 1}));
  EXPECT_EQ(graph.keys, std::vector<std::int32_t>{0});
  EXPECT_EQ(graph.weight(0), 1.0);
}

TEST_P(Ties, ASinkTakesItsPartOfAUniformRow) {
  Scores row(1, {0.0, 0.0, 0.0});
  const Tensor sink(DType::kF32, {1, 1}, {0.0});
  row.problem.sinks = sink.view();
  row.problem.selection.threshold = 0.26;
  EXPECT_EQ(run_extract(backend(), row.problem).edge_count(), 0) << "each key weighs 1/4";
  row.problem.selection.threshold = 0.24;
  EXPECT_EQ(run_extract(backend(), row.problem).edge_count(), 3);
  const Tensor no_sink(DType::kF32, {1, 1}, {-HUGE_VAL});
  row.problem.sinks = no_sink.view();
  row.problem.selection.threshold = 1.0 / 3;
  EXPECT_EQ(run_extract(backend(), row.problem).edge_count(), 3) << "a sink of -inf is none";
}

TEST_P(Ties, TopKPrefersSmallerKeys) {
  std::vector<double> scores(300, 1.0);
  scores[200] = 2.0;
  Scores row(1, scores);
  row.problem.selection.top_k = 5;
  const EdgeList graph = run_extract(backend(), row.problem);
  EXPECT_EQ(graph.keys, (std::vector<std::int32_t>{0, 1, 2, 3, 200}));
}

TEST_P(Ties, MassPrefersSmallerKeys) {
  Scores row(1, std::vector<double>(64, 3.0));
  row.problem.selection.mass = 0.5;
  EXPECT_EQ(run_extract(backend(), row.problem).keys, first_keys(32)) << "32 of 64 weigh exactly a half";
  row.problem.selection.mass = 0.51;
  EXPECT_EQ(run_extract(backend(), row.problem).keys, first_keys(33));
  row.problem.selection.mass = 1.0;
  EXPECT_EQ(run_extract(backend(), row.problem).keys, first_keys(64));
}

TEST_P(Ties, KnownWeights) {
  Scores row(1, {0.0, std::log(3.0)}, DType::kF64);
  row.problem.selection.threshold = 0.2;
  row.problem.stats.entropy = true;
  const EdgeList graph = run_extract(backend(), row.problem);
  ASSERT_EQ(graph.edge_count(), 2);
  EXPECT_FLOAT_EQ(graph.weights_f32[0], 0.25f);
  EXPECT_FLOAT_EQ(graph.weights_f32[1], 0.75f);
  EXPECT_NEAR(graph.rows.logsumexp[0], std::log(4.0), 1e-6);
  EXPECT_NEAR(graph.rows.entropy[0], 0.25 * std::log(4.0) + 0.75 * std::log(4.0 / 3.0), 1e-5);
  EXPECT_EQ(graph.rows.max_key[0], 1);
  EXPECT_NEAR(graph.rows.kept_mass[0], 1.0, 1e-6);
}

TEST_P(Ties, RowsWithoutKeysAreEmpty) {
  Scores rows(6, {1.0, 2.0, 3.0});
  const Tensor nothing(DType::kBool, {1, 1, 6, 3}, std::vector<double>(18, 0.0));
  const Tensor lowest(DType::kF16, {1, 1, 6, 3}, std::vector<double>(18, lowest_of(DType::kF16)));
  std::vector<Problem> problems(4, rows.problem);
  problems[0].mask.tensor = nothing.view();
  problems[1].mask.tensor = lowest.view();
  problems[2].mask.key_lengths = {0};
  problems[3].mask.causal = true;
  problems[3].mask.query_offset = -6;
  for (Problem& problem : problems) {
    for (const Selection& selection : {Selection{0.5, 0, 0, 0}, Selection{0, 0, 0, 0}, Selection{0, 2, 0.5, 0}}) {
      problem.selection = selection;
      problem.stats = {true, true, true};
      const EdgeList graph = run_extract(backend(), problem);
      EXPECT_EQ(graph.edge_count(), 0);
      EXPECT_EQ(graph.offsets, std::vector<std::int64_t>(7, 0));
      EXPECT_EQ(graph.rows.logsumexp, std::vector<double>(6, -HUGE_VAL));
      EXPECT_EQ(graph.rows.maximum, std::vector<double>(6, -HUGE_VAL));
      EXPECT_EQ(graph.rows.max_key, std::vector<std::int32_t>(6, -1));
      EXPECT_EQ(graph.rows.kept_mass, std::vector<double>(6, 0.0));
      EXPECT_EQ(graph.rows.entropy, std::vector<double>(6, 0.0));
      EXPECT_EQ(graph.slices[0].sums.received, std::vector<double>(3, 0.0));
      EXPECT_EQ(graph.report.empty_rows, 6);
      EXPECT_EQ(graph.report.rows_with_keys, 0);
    }
  }
}

}  // namespace
}  // namespace ag::test
