// SPDX-License-Identifier: Apache-2.0
// The double score pass and the stages after it, against the definition in long double: every case of the contract that
// needs no selection but a threshold.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "extract_on_device.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

std::vector<Case> threshold_cases() {
  std::vector<Case> cases;
  for (Case c : extract_cases()) {
    const std::int64_t pairs = c.batch * c.query_heads * c.queries * c.keys;
    const bool no_queries = c.queries == 0 || (c.query_begin > 0 && c.query_begin == c.query_end);
    if (c.top_k == 0 && c.mass == 0 && pairs <= 40'000 && !no_queries) cases.push_back(c);
  }
  return cases;
}

class RowsF64Cases : public ::testing::TestWithParam<Case> {};

TEST_P(RowsF64Cases, EqualTheDefinition) {
  const Inputs inputs(GetParam());
  const EdgeList actual = extract_by_rows_f64(inputs.problem());
  expect_same_graph(actual, oracle_extract(inputs.problem()), inputs.problem());
  EXPECT_LT(actual.report.eps, 1e-9) << "double is not float";
}

INSTANTIATE_TEST_SUITE_P(, RowsF64Cases, ::testing::ValuesIn(threshold_cases()),
                         [](const auto& test) { return test_name(test.param.name); });

TEST(RowsF64, EveryScheduleGivesTheSameBits) {
  const Inputs inputs({.name = "schedules",
                       .dtype = DType::kF16,
                       .batch = 2,
                       .query_heads = 4,
                       .key_heads = 2,
                       .queries = 21,
                       .keys = 70,
                       .head_dim = 40,
                       .causal = true,
                       .query_offset = 49,
                       .mask = MaskKind::kBool,
                       .sinks = true,
                       .stats = {true, true, true}});
  const EdgeList expected = extract_by_rows_f64(inputs.problem());
  for_every_schedule([&] {
    const EdgeList actual = extract_by_rows_f64(inputs.problem());
    expect_identical_edges(actual, expected);
    EXPECT_EQ(actual.rows.kept_mass, expected.rows.kept_mass);
    EXPECT_EQ(actual.rows.logsumexp, expected.rows.logsumexp);
    for (std::size_t s = 0; s < expected.slices.size(); ++s) {
      EXPECT_EQ(actual.slices[s].sums.received, expected.slices[s].sums.received);
      EXPECT_EQ(actual.slices[s].sums.distances, expected.slices[s].sums.distances);
    }
  });
}

TEST(RowsF64, HugeScoresTellOneKeyFromTwoEqualOnes) {
  // Scores of 1e30 and 1e300: key 5 is the largest in row 0, keys 2 and 9 tie in row 1.
  for (const double size : {1e15, 1e149}) {
    SCOPED_TRACE(size);
    constexpr std::int64_t kKeys = 40, kDim = 12;
    std::vector<double> q(2 * kDim, size), k(kKeys * kDim);
    Random random(3);
    for (double& x : k) x = size * 0.5 * random.uniform();
    for (std::int64_t d = 0; d < kDim; ++d) {
      q[static_cast<std::size_t>(kDim + d)] = d % 2 == 0 ? size : -size;
      const double x = size * (1 + 0.1 * static_cast<double>(d));
      k[static_cast<std::size_t>(5 * kDim + d)] = x;
      for (const std::int64_t j : {2, 9}) k[static_cast<std::size_t>(j * kDim + d)] = d % 2 == 0 ? size : -0.7 * size;
    }
    Case c{.name = "huge", .dtype = DType::kF64, .queries = 2, .keys = kKeys, .head_dim = kDim, .threshold = 0.3};
    c.stats = {true, true, true};
    Inputs inputs(c);
    for (std::size_t n = 0; n < q.size(); ++n) inputs.q().set(n, q[n]);
    for (std::size_t n = 0; n < k.size(); ++n) inputs.k().set(n, k[n]);
    inputs.problem().scale = 1;
    const EdgeList graph = extract_by_rows_f64(inputs.problem());
    EXPECT_EQ(graph.keys, (std::vector<std::int32_t>{5, 2, 9}));
    ASSERT_EQ(graph.weights_f32.size(), 3u);
    EXPECT_EQ(graph.weights_f32, (std::vector<float>{1.0f, 0.5f, 0.5f}));
    EXPECT_EQ(graph.slices[0].sums.received[5], 1.0);
    EXPECT_NEAR(graph.slices[0].sums.received[9], 0.5, 1e-15);
    EXPECT_NEAR(graph.rows.entropy[1], std::log(2.0), 1e-12);
  }
}

TEST(RowsF64, TiesAreDecidedByTheRuleForEveryNumberOfKeys) {
  for (const std::int64_t m : {1, 3, 4, 10, 33, 49, 64, 100}) {
    SCOPED_TRACE(m);
    Case c{.name = "ties", .dtype = DType::kF16, .queries = 3, .keys = m, .head_dim = 5};
    c.stats.entropy = true;
    Inputs inputs(c);
    for (std::size_t n = 0; n < inputs.k().size(); ++n) inputs.k().set(n, 0.25);
    const double exact = 1.0 / static_cast<double>(m);
    for (const double t : {std::nextafter(exact, 0.0), exact, std::nextafter(exact, 2.0)}) {
      if (t > 1) continue;
      inputs.problem().selection.threshold = t;
      const bool edge = std::fma(static_cast<double>(m), t, -1.0) <= 0;
      const EdgeList graph = extract_by_rows_f64(inputs.problem());
      ASSERT_EQ(graph.edge_count(), edge ? 3 * m : 0) << t;
      for (const float weight : graph.weights_f32) ASSERT_EQ(weight, static_cast<float>(exact));
      EXPECT_EQ(graph.report.borderline, 0);
    }
  }
}

TEST(RowsF64, BadQueriesAndKeysAreSkipped) {
  Inputs inputs({.name = "skip", .queries = 9, .keys = 50, .head_dim = 16, .stats = {true, true, true}});
  inputs.q().set(3 * 16 + 2, std::nan(""));
  inputs.k().set(7 * 16, HUGE_VAL);
  inputs.k().set(33 * 16 + 15, std::nan(""));
  inputs.problem().nonfinite = Nonfinite::kSkip;
  expect_same_graph(extract_by_rows_f64(inputs.problem()), oracle_extract(inputs.problem()), inputs.problem());
}

TEST(RowsF64, MoreCandidatesThanRoomAreReported) {
  const Inputs inputs({.name = "room", .queries = 4, .keys = 60, .head_dim = 8, .spread = 0.01, .threshold = 1e-9});
  const DeviceProblem device(inputs.problem());
  device.for_each_chunk(4, [&](DeviceChunk made) {
    const cuda::BandModel model = band_model(inputs.problem(), 0, 0, DType::kF64);
    made.facts.band_f64 = model;
    made.facts.judged_double = 1;
    for (const std::int64_t capacity : {60, 59}) {
      const PassArrays pass(4, capacity);
      cuda_ok(cuda::launch_rows_f64(made.table(), pass.states, pass.candidates, kDefaultStream));
      const FinishedChunk done = finish_chunk(inputs.problem(), made, model, pass, true);
      EXPECT_EQ(done.report.rows_overflowed, capacity == 60 ? 0u : 4u);
    }
  });
}

TEST(RowsF64, CandidatesCanBeCountedBeforeThereIsRoom) {
  const Inputs inputs({.name = "count", .queries = 20, .keys = 90, .head_dim = 8, .causal = true, .query_offset = 60});
  const DeviceProblem device(inputs.problem());
  device.for_each_chunk(20, [&](DeviceChunk made) {
    made.facts.band_f64 = band_model(inputs.problem(), 0, 0, DType::kF64);
    made.facts.judged_double = 1;
    const PassArrays counted(20, 90), written(20, 90);
    cuda::Candidates counts = counted.candidates;
    counts.keys = nullptr;
    cuda_ok(cuda::launch_rows_f64(made.table(), counted.states, counts, kDefaultStream));
    cuda_ok(cuda::launch_rows_f64(made.table(), written.states, written.candidates, kDefaultStream));
    wait_for_device();
    EXPECT_EQ(counted.count.download(), written.count.download());
    EXPECT_EQ(counted.sum.download(), written.sum.download());
  });
}

}  // namespace
}  // namespace ag::test
