// SPDX-License-Identifier: Apache-2.0
// NaN and infinity in what a caller gives: located, or skipped and counted.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "core/numbers.hpp"
#include "support/compare.hpp"
#include "support/inputs.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

class Nonfinites : public EveryBackend {
 protected:
  void expect_nonfinite(const Problem& problem, const std::vector<std::string>& parts) const {
    const Failure failure = failure_of([&] { run_extract(backend(), problem, 2); });
    EXPECT_EQ(failure.status, Status::kNonfinite) << failure.message;
    for (const std::string& part : parts) {
      EXPECT_NE(failure.message.find(part), std::string::npos) << "'" << part << "' in: " << failure.message;
    }
  }
};
ATTNGRAPH_EVERY_BACKEND(Nonfinites);

Case small(DType dtype = DType::kF32) {
  return {.name = "small",
          .dtype = dtype,
          .batch = 2,
          .query_heads = 4,
          .key_heads = 2,
          .queries = 20,
          .keys = 70,
          .head_dim = 9};
}

std::size_t at(std::int64_t heads, std::int64_t n, std::int64_t dim, std::int64_t b, std::int64_t h, std::int64_t i,
               std::int64_t d) {
  return static_cast<std::size_t>(((b * heads + h) * n + i) * dim + d);
}

TEST_P(Nonfinites, AreLocatedInQueries) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    for (const double bad : {kNaN, HUGE_VAL, -HUGE_VAL}) {
      Inputs inputs(small(dtype));
      inputs.q().set(at(4, 20, 9, 1, 2, 17, 3), bad);
      expect_nonfinite(inputs.problem(), {"q", "batch 1", "head 2", "position 17", "dimension 3"});
    }
  }
}

TEST_P(Nonfinites, AreNobodysBusinessWithoutAQuery) {
  Inputs inputs(small());
  inputs.k().set(at(2, 70, 9, 1, 1, 69, 8), kNaN);
  inputs.problem().query_end = inputs.problem().query_begin;
  EXPECT_EQ(run_extract(backend(), inputs.problem(), 2).edge_count(), 0);
}

TEST_P(Nonfinites, AreLocatedInKeys) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    for (const double bad : {kNaN, HUGE_VAL, -HUGE_VAL}) {
      Inputs inputs(small(dtype));
      inputs.k().set(at(2, 70, 9, 1, 1, 69, 8), bad);
      expect_nonfinite(inputs.problem(), {"k", "batch 1", "head 1", "position 69", "dimension 8"});
    }
  }
}

TEST_P(Nonfinites, OutsideTheRequestAreNotRead) {
  Case c = small();
  c.key_lengths = {70, 60};
  c.query_begin = 3;
  c.query_end = 9;
  c.heads = {2, 3};
  Inputs inputs(c);
  const EdgeList clean = run_extract(backend(), inputs.problem());
  inputs.q().set(at(4, 20, 9, 0, 2, 2, 0), kNaN);   // before the range
  inputs.q().set(at(4, 20, 9, 1, 3, 9, 8), kNaN);   // after the range
  inputs.q().set(at(4, 20, 9, 0, 1, 5, 0), kNaN);   // another head
  inputs.k().set(at(2, 70, 9, 1, 1, 60, 0), kNaN);  // beyond the length of batch 1
  inputs.k().set(at(2, 70, 9, 0, 0, 10, 0), kNaN);  // a key head that no chosen head reads
  expect_identical_edges(run_extract(backend(), inputs.problem()), clean);
}

TEST_P(Nonfinites, AreSkippedAndCountedOnRequest) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kF64}) {
    Case c = small(dtype);
    c.stats = {true, true, true};
    Inputs inputs(c);
    inputs.q().set(at(4, 20, 9, 0, 1, 4, 0), kNaN);
    inputs.q().set(at(4, 20, 9, 0, 1, 4, 5), HUGE_VAL);  // the same row again
    inputs.q().set(at(4, 20, 9, 1, 3, 19, 8), -HUGE_VAL);
    inputs.k().set(at(2, 70, 9, 0, 0, 0, 0), kNaN);
    inputs.k().set(at(2, 70, 9, 0, 0, 33, 8), HUGE_VAL);
    inputs.k().set(at(2, 70, 9, 1, 1, 69, 2), -HUGE_VAL);
    inputs.problem().nonfinite = Nonfinite::kSkip;
    const EdgeList graph = run_extract(backend(), inputs.problem(), 2);
    EXPECT_EQ(graph.report.skipped_nonfinite, 5);
    EXPECT_EQ(graph.report.empty_rows, 2);
    expect_same_graph(graph, oracle_extract(inputs.problem()), inputs.problem());
  }
}

TEST_P(Nonfinites, AllKeysSkippedLeavesEmptyRows) {
  Inputs inputs(small());
  for (std::size_t n = 0; n < inputs.k().size(); ++n) inputs.k().set(n, kNaN);
  inputs.problem().nonfinite = Nonfinite::kSkip;
  const EdgeList graph = run_extract(backend(), inputs.problem());
  EXPECT_EQ(graph.edge_count(), 0);
  EXPECT_EQ(graph.report.empty_rows, 2 * 4 * 20);
  EXPECT_EQ(graph.report.skipped_nonfinite, 2 * 2 * 70);
}

TEST_P(Nonfinites, AreNeverSkippedInMasks) {
  for (const double bad : {kNaN, HUGE_VAL}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
      Inputs inputs(small());
      std::vector<double> values(2 * 20 * 70, 0.0);
      values[static_cast<std::size_t>((1 * 20 + 6) * 70 + 41)] = bad;
      const Tensor mask(dtype, {2, 1, 20, 70}, values);
      TensorView view = mask.view();
      view.shape[1] = 4;
      view.strides[1] = 0;
      inputs.problem().mask.tensor = view;
      for (const Nonfinite nonfinite : {Nonfinite::kError, Nonfinite::kSkip}) {
        inputs.problem().nonfinite = nonfinite;
        expect_nonfinite(inputs.problem(), {"mask", "batch 1", "head 0", "query 6", "key 41"});
      }
    }
  }
}

TEST_P(Nonfinites, AreNeverSkippedInSinks) {
  for (const double bad : {kNaN, HUGE_VAL}) {
    Inputs inputs(small());
    const Tensor sinks(DType::kF32, {2, 4}, {0, 0, 0, 0, 0, 0, bad, 0});
    inputs.problem().sinks = sinks.view();
    expect_nonfinite(inputs.problem(), {"sinks", "batch 1", "head 2"});
  }
}

TEST_P(Nonfinites, NanIsNoLogsumexp) {
  Inputs inputs(small());
  std::vector<double> values(2 * 4 * 20, 3.0);
  values[static_cast<std::size_t>((1 * 4 + 2) * 20 + 11)] = kNaN;
  const Tensor lse(DType::kF32, {2, 4, 20}, values);
  inputs.problem().logsumexp = lse.view();
  expect_nonfinite(inputs.problem(), {"lse", "batch 1", "head 2", "query 11"});
}

TEST_P(Nonfinites, AnInfiniteLogsumexpMeansARowWithoutKeys) {
  Case c = small();
  c.stats = {true, true, true};
  Inputs inputs(c);
  std::vector<double> values(2 * 4 * 20, 3.0);
  values[5] = HUGE_VAL;
  values[6] = -HUGE_VAL;
  const Tensor lse(DType::kF32, {2, 4, 20}, values);
  inputs.problem().logsumexp = lse.view();
  inputs.problem().selection.threshold = 0;
  const EdgeList graph = run_extract(backend(), inputs.problem());
  EXPECT_EQ(graph.offsets[5], graph.offsets[7]);
  EXPECT_EQ(graph.edge_count(), (2 * 4 * 20 - 2) * 70);
  EXPECT_EQ(graph.report.empty_rows, 2);
  for (const std::size_t row : {std::size_t{5}, std::size_t{6}}) {
    EXPECT_EQ(graph.rows.logsumexp[row], -HUGE_VAL);
    EXPECT_EQ(graph.rows.max_key[row], -1);
  }
}

// Products of one dimension are exact in double, so that the right answer is known at any size.
TEST_P(Nonfinites, HugeScoresGiveTheRightEdgesOrARangeError) {
  for (const double size : {1e4, 1e8, 1e15, 1e19, 1e25, 1e30}) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
      SCOPED_TRACE(::testing::Message() << "size " << size << " " << name_of(dtype));
      const Tensor q(dtype, {1, 1, 4, 1}, {size, -size, 0.0, 1.0});
      const Tensor k(dtype, {1, 1, 6, 1}, {1.0, 3.0, -2.0, 3.0, -size / 4, 0.0});
      Problem problem;
      problem.q = q.view();
      problem.k = k.view();
      problem.heads = {0};
      problem.query_end = 4;
      problem.selection.threshold = 0.05;
      try {
        const EdgeList graph = run_extract(backend(), problem);
        std::vector<std::int32_t> keys;
        for (std::int64_t i = 0; i < 4; ++i) {
          const std::vector<std::int32_t> row = exact_edges(problem.selection, exact_row(problem, 0, 0, i));
          keys.insert(keys.end(), row.begin(), row.end());
        }
        EXPECT_EQ(graph.keys, keys);
        for (const double lse : graph.rows.logsumexp) EXPECT_TRUE(std::isfinite(lse));
        EXPECT_FLOAT_EQ(graph.weights_f32.at(0), 0.5f) << "keys 1 and 3 share the first row";
      } catch (const Error& error) {
        EXPECT_EQ(error.status(), Status::kRange) << error.what();
      }
    }
  }
}

TEST_P(Nonfinites, ScoresThatOverflowAreARangeError) {
  const Tensor q(DType::kF64, {1, 1, 1, 2}, {1e200, 1e200}), k(DType::kF64, {1, 1, 1, 2}, {1e200, -1e200});
  Problem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.heads = {0};
  problem.query_end = 1;
  problem.selection.threshold = 0.5;
  for (const double scale : {1.0, 1e-300}) {
    problem.scale = scale;
    EXPECT_EQ(failure_of([&] { run_extract(backend(), problem); }).status, Status::kRange);
  }
}

TEST_P(Nonfinites, TinyInputsAreFine) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    const double tiny = dtype == DType::kF64 ? 1e-310 : dtype == DType::kF16 ? 0x1p-24 : 0x1p-130;
    const Tensor q(dtype, {1, 1, 2, 3}, std::vector<double>(6, tiny)),
        k(dtype, {1, 1, 4, 3}, std::vector<double>(12, tiny));
    Problem problem;
    problem.q = q.view();
    problem.k = k.view();
    problem.heads = {0};
    problem.query_end = 2;
    problem.selection.threshold = 0.25;
    EXPECT_EQ(run_extract(backend(), problem).edge_count(), 8) << name_of(dtype);
  }
}

}  // namespace
}  // namespace ag::test
