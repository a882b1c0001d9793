// SPDX-License-Identifier: Apache-2.0
// A ready attention matrix: stored weights compared exactly, nothing rounded on the way.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/numbers.hpp"
#include "support/compare.hpp"
#include "support/inputs.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

MatrixProblem matrix_problem(const Tensor& weights, double threshold) {
  MatrixProblem problem;
  problem.weights = weights.view();
  problem.selection.threshold = threshold;
  problem.query_end = problem.queries();
  for (std::int64_t h = 0; h < problem.query_heads(); ++h) problem.heads.push_back(h);
  return problem;
}

// The definition once more: keys and weights of a row by plain comparison and full sorting.
std::vector<std::pair<std::int32_t, double>> expected_row(const MatrixProblem& p, std::int64_t b, std::int64_t h,
                                                          std::int64_t i) {
  std::vector<std::pair<std::int32_t, double>> row;
  const KeyRange range = p.mask.range(b, i, p.keys());
  for (std::int64_t j = range.begin; j < range.end; ++j) {
    if (p.mask.tensor && std::isinf(mask_bias(p.mask.tensor.dtype, p.mask.tensor.at(b, h, i, j)))) continue;
    const double w = load_double(p.weights.dtype, p.weights.at(b, h, i, j));
    if (!std::isfinite(w)) continue;
    if (p.selection.threshold == 0 || w >= p.selection.threshold) row.emplace_back(static_cast<std::int32_t>(j), w);
  }
  std::stable_sort(row.begin(), row.end(), [](const auto& a, const auto& b2) { return a.second > b2.second; });
  if (p.selection.top_k > 0 && static_cast<std::int64_t>(row.size()) > p.selection.top_k) {
    row.resize(static_cast<std::size_t>(p.selection.top_k));
  }
  if (p.selection.mass > 0) {
    double sum = 0;
    std::size_t n = 0;
    while (n < row.size() && sum < p.selection.mass) sum += row[n++].second;
    row.resize(n);
  }
  std::sort(row.begin(), row.end());
  return row;
}

void expect_exact(const EdgeList& graph, const MatrixProblem& p) {
  ASSERT_NO_FATAL_FAILURE(expect_well_formed(graph));
  EXPECT_EQ(graph.weight_dtype, p.weights.dtype == DType::kF64 ? DType::kF64 : DType::kF32);
  EXPECT_EQ(graph.report.eps, 0.0);
  ASSERT_EQ(graph.slices.size(), static_cast<std::size_t>(p.batch()) * p.heads.size());
  for (const Slice& slice : graph.slices) {
    for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
      const std::int64_t i = p.query_begin + r;
      SCOPED_TRACE(row_name(slice.info, i));
      const auto expected = expected_row(p, slice.info.id.batch, slice.info.id.head, i);
      const auto place = static_cast<std::size_t>(slice.first_offset + r);
      const std::int64_t begin = slice.first_edge + graph.offsets[place];
      ASSERT_EQ(graph.offsets[place + 1] - graph.offsets[place], static_cast<std::int64_t>(expected.size()));
      double kept = 0;
      for (std::size_t n = 0; n < expected.size(); ++n) {
        const std::int64_t e = begin + static_cast<std::int64_t>(n);
        EXPECT_EQ(graph.keys[static_cast<std::size_t>(e)], expected[n].first);
        EXPECT_EQ(graph.weight(e), expected[n].second) << "weights keep their value";
        kept += expected[n].second;
      }
      MatrixProblem everything = p;
      everything.selection = {};
      const auto allowed = expected_row(everything, slice.info.id.batch, slice.info.id.head, i);
      double sum = 0, entropy = 0, maximum = -HUGE_VAL, magnitude = 0;
      std::int32_t max_key = -1;
      for (const auto& [key, w] : allowed) {
        sum += w;
        magnitude += std::abs(w);
        if (w > 0) entropy -= w * std::log(w);
        if (max_key < 0 || w > maximum) std::tie(max_key, maximum) = std::make_pair(key, w);
      }
      const auto row = static_cast<std::size_t>(slice.first_row + r);
      EXPECT_EQ(graph.rows.max_key[row], max_key);
      EXPECT_EQ(graph.rows.maximum[row], maximum);
      EXPECT_NEAR(graph.rows.kept_mass[row], kept, 1e-12 * magnitude);
      if (sum > 0.01 * magnitude || allowed.empty()) {
        EXPECT_TRUE(close(graph.rows.logsumexp[row], std::log(sum), 0, 1e-10))
            << graph.rows.logsumexp[row] << ", expected " << std::log(sum);
      }
      if (p.stats.entropy) {
        EXPECT_NEAR(graph.rows.entropy[row], entropy, 1e-10 * (1 + std::abs(entropy)));
      }
    }
  }
}

class FilterMatrix : public ::testing::TestWithParam<Target> {
 protected:
  void SetUp() override {
    const std::string reason = backend().unavailable();
    if (!reason.empty()) GTEST_SKIP() << backend().name() << ": " << reason;
    force_cpu_target(GetParam().instruction_set);
  }
  void TearDown() override { force_cpu_target(""); }
  const Backend& backend() const { return find_backend(GetParam().backend); }
};
INSTANTIATE_TEST_SUITE_P(, FilterMatrix, ::testing::ValuesIn(all_targets()),
                         [](const auto& test) { return name_of(test.param); });

std::vector<double> random_weights(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> values(n);
  // Many equal values, so that thresholds meet stored weights.
  for (double& w : values)
    w = random.below(3) == 0 ? static_cast<double>(random.below(8)) / 16 : random.uniform() * 0.1;
  return values;
}

TEST_P(FilterMatrix, KeepsExactlyTheStoredWeightsAtOrAboveTheThreshold) {
  const std::pair<std::int64_t, std::int64_t> shapes[] = {{1, 1}, {5, 3}, {17, 64}, {9, 131}, {6, 300}, {0, 4}, {4, 0}};
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (const auto& [queries, keys] : shapes) {
      for (const Storage storage :
           {Storage::kRowMajor, Storage::kDimensionOutside, Storage::kReversed, Storage::kUnaligned}) {
        SCOPED_TRACE(fmt::format("{} {}x{} storage {}", name_of(dtype), queries, keys, static_cast<int>(storage)));
        const Tensor weights(dtype, {2, 3, queries, keys},
                             random_weights(static_cast<std::size_t>(6 * queries * keys), 9), layout_of(storage));
        for (const double threshold : {0.0, 0.05, 0.0625, std::nextafter(0.0625, 1.0), 0.4375, 2.0}) {
          const MatrixProblem problem = matrix_problem(weights, threshold);
          expect_exact(run_filter(backend(), problem, 2), problem);
        }
        EXPECT_TRUE(weights.untouched());
      }
    }
  }
}

TEST_P(FilterMatrix, ObeysMasksSelectionsAndRanges) {
  const Tensor weights(DType::kF32, {2, 2, 50, 70}, random_weights(4 * 50 * 70, 10));
  std::vector<double> bools(4 * 50 * 70), biases(70);
  for (std::size_t n = 0; n < bools.size(); ++n) bools[n] = n % 3 != 0;
  for (std::size_t n = 0; n < biases.size(); ++n) biases[n] = n % 5 == 0 ? -HUGE_VAL : 0.0;
  const Tensor mask(DType::kBool, {2, 2, 50, 70}, bools), bias(DType::kF32, {1, 1, 1, 70}, biases);
  const MatrixProblem plain = matrix_problem(weights, 0.03);
  std::vector<MatrixProblem> problems(9, plain);
  problems[0].mask.causal = true;
  problems[0].mask.query_offset = 20;
  problems[1].mask.window = 9;
  problems[2].mask.key_lengths = {70, 0};
  problems[3].mask.tensor = mask.view();
  problems[4].mask.tensor = bias.view();
  problems[4].mask.tensor.shape = {2, 2, 50, 70};
  problems[4].mask.tensor.strides = {0, 0, 0, 1};
  problems[5].selection = {0, 4, 0, 0};
  problems[6].selection = {0.01, 30, 1.7, 0};
  problems[7].query_begin = 11;
  problems[7].query_end = 30;
  problems[7].heads = {1};
  problems[8].mask.causal = true;
  problems[8].mask.query_offset = -10;
  for (std::size_t n = 0; n < problems.size(); ++n) {
    SCOPED_TRACE(n);
    problems[n].stats.entropy = n % 2 == 0;
    expect_exact(run_filter(backend(), problems[n], 2), problems[n]);
    problems[n].selection.threshold = 0;
    expect_exact(run_filter(backend(), problems[n], 2), problems[n]);
  }
}

TEST_P(FilterMatrix, SumsOverQueriesCountEveryWeight) {
  const Tensor weights(DType::kF64, {1, 2, 30, 40}, random_weights(2 * 30 * 40, 12));
  MatrixProblem problem = matrix_problem(weights, 0.2);
  problem.mask.causal = true;
  problem.mask.query_offset = 3;
  problem.query_begin = 4;
  problem.stats = {true, true, true};
  const EdgeList graph = run_filter(backend(), problem);
  for (const Slice& slice : graph.slices) {
    std::vector<double> received(40), distances(26 + 40 - 1);
    const std::int64_t first = 4 + 3 - 39;
    for (std::int64_t i = 4; i < 30; ++i) {
      for (std::int64_t j = 0; j <= std::min<std::int64_t>(i + 3, 39); ++j) {
        const double w = load_double(DType::kF64, weights.view().at(0, slice.info.id.head, i, j));
        received[static_cast<std::size_t>(j)] += w;
        distances[static_cast<std::size_t>(i + 3 - j - first)] += w;
      }
    }
    EXPECT_EQ(slice.sums.distance_begin, first);
    expect_same_sums(slice.sums.received, received, 1e-12, "received by key");
    expect_same_sums(slice.sums.distances, distances, 1e-12, "mass at distance");
  }
}

TEST_P(FilterMatrix, AStoredHalfBelowOneTenthIsNoEdge) {
  // 0.1 as f16 is 0.0999755859375, as bf16 0.10009765625, as f32 0.100000001490116.
  for (const auto& [dtype, edges] : std::initializer_list<std::pair<DType, std::int64_t>>{
           {DType::kF16, 0}, {DType::kBF16, 1}, {DType::kF32, 1}, {DType::kF64, 1}}) {
    const Tensor weights(dtype, {1, 1, 1, 1}, {0.1});
    EXPECT_EQ(run_filter(backend(), matrix_problem(weights, 0.1)).edge_count(), edges) << name_of(dtype);
  }
}

TEST_P(FilterMatrix, ThresholdsBetweenFloatsAreNotRounded) {
  const auto stored = static_cast<double>(0.3f);
  const Tensor weights(DType::kF32, {1, 1, 1, 1}, {stored});
  for (const auto& [threshold, edges] : std::initializer_list<std::pair<double, std::int64_t>>{
           {stored, 1}, {std::nextafter(stored, 1.0), 0}, {std::nextafter(stored, 0.0), 1}}) {
    EXPECT_EQ(run_filter(backend(), matrix_problem(weights, threshold)).edge_count(), edges);
  }
}

TEST_P(FilterMatrix, NegativeAndSubnormalWeights) {
  const Tensor weights(DType::kF32, {1, 1, 2, 4}, {-1.0, 0.0, 1e-42, 3.0, -0.0, -2.0, -3.0, -4.0});
  for (const double threshold : {0.0, 1e-43, 1e-42, 1.0}) {
    SCOPED_TRACE(threshold);
    MatrixProblem problem = matrix_problem(weights, threshold);
    problem.stats.entropy = true;
    expect_exact(run_filter(backend(), problem), problem);
  }
}

TEST_P(FilterMatrix, LocatesNonfiniteWeightsOrSkipsThem) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (const double bad : {kNaN, HUGE_VAL, -HUGE_VAL}) {
      Tensor weights(dtype, {2, 2, 6, 45}, random_weights(2 * 2 * 6 * 45, 13));
      MatrixProblem problem = matrix_problem(weights, 0.05);
      weights.set(static_cast<std::size_t>(((1 * 2 + 0) * 6 + 3) * 45 + 37), bad);
      const Failure failure = failure_of([&] { run_filter(backend(), problem); });
      EXPECT_EQ(failure.status, Status::kNonfinite);
      for (const char* part : {"batch 1", "head 0", "query 3", "key 37"}) {
        EXPECT_NE(failure.message.find(part), std::string::npos) << "'" << part << "' in: " << failure.message;
      }
      problem.nonfinite = Nonfinite::kSkip;
      const EdgeList graph = run_filter(backend(), problem);
      EXPECT_EQ(graph.report.skipped_nonfinite, 1);
      expect_exact(graph, problem);
      // A pair that the masks exclude is not looked at.
      problem.nonfinite = Nonfinite::kError;
      problem.mask.key_lengths = {45, 37};
      expect_exact(run_filter(backend(), problem), problem);
    }
  }
}

TEST_P(FilterMatrix, ThreadsDoNotChangeTheAnswer) {
  const Tensor weights(DType::kF32, {2, 2, 300, 200}, random_weights(4 * 300 * 200, 14));
  MatrixProblem problem = matrix_problem(weights, 0.02);
  problem.stats = {true, true, true};
  const EdgeList one = run_filter(backend(), problem, 1);
  for (const int threads : {2, 3, 8}) {
    const EdgeList many = run_filter(backend(), problem, threads);
    expect_identical_edges(many, one);
    EXPECT_EQ(many.rows.logsumexp, one.rows.logsumexp);
    EXPECT_EQ(many.rows.entropy, one.rows.entropy);
    EXPECT_EQ(many.rows.kept_mass, one.rows.kept_mass);
    for (std::size_t s = 0; s < one.slices.size(); ++s) {
      EXPECT_EQ(many.slices[s].sums.received, one.slices[s].sums.received);
      EXPECT_EQ(many.slices[s].sums.distances, one.slices[s].sums.distances);
    }
  }
}

// numpy.random.seed(42); a = numpy.random.rand(8, 8); a / a.sum(axis=1, keepdims=True)
const std::vector<double>& seed_42() {
  static const std::vector<double> values{
      0.09622888483605832,  0.2442626914976671,   0.18806786558416266,  0.1538105944677268,  0.04008515784535251,
      0.0400789607764453,   0.014923157613654134, 0.22254268737893326,  0.16203901106692983, 0.19087092823876595,
      0.005548840128500368, 0.26145285044975797,  0.2243966290145935,   0.05723899558814828, 0.04901347878183046,
      0.049439266731473634, 0.10271423501250435,  0.17716131369096302,  0.1458275541414128,  0.0983209236751832,
      0.20656566757547107,  0.047094069010400016, 0.09863000546995927,  0.12368623142410624, 0.13524853667334644,
      0.23284562344483778,  0.05921369040611804,  0.152497330912669,    0.17568181707926958, 0.013774969995094057,
      0.18016873512112438,  0.050569296367540734, 0.015076952983984754, 0.21992240275482544, 0.22380372400394932,
      0.1873615733389941,   0.07060007703640035,  0.022637383700255913, 0.15858411296934447, 0.10201377321224563,
      0.03682499542382518,  0.14941946244981733,  0.010376724428296758, 0.2743871188233156,  0.07808677051351086,
      0.1999158716163731,   0.0940587100849835,   0.15693034665987765,  0.09376919290568404, 0.031705372579549626,
      0.1662986254958521,   0.13294716047516972,  0.1611384691578167,   0.15347660654985953, 0.10254901100229369,
      0.15811556183377465,  0.03538921319149071,  0.07837589783550797,  0.01808693541503788, 0.13010350217337557,
      0.1554367110045287,   0.10851573310829099,  0.33142207205256036,  0.14266993521920776,
  };
  return values;
}

TEST_P(FilterMatrix, Seed42MatrixHasTheKnownEdges) {
  const Tensor weights(DType::kF64, {1, 1, 8, 8}, seed_42());
  for (const auto& [threshold, edges] : std::initializer_list<std::pair<double, std::int64_t>>{
           {0.0, 64}, {0.10, 38}, {0.15, 27}, {0.20, 10}, {0.25, 3}}) {
    EXPECT_EQ(run_filter(backend(), matrix_problem(weights, threshold)).edge_count(), edges) << threshold;
  }
  const EdgeList graph = run_filter(backend(), matrix_problem(weights, 0.27));
  ASSERT_EQ(graph.edge_count(), 2);
  EXPECT_EQ(graph.offsets, (std::vector<std::int64_t>{0, 0, 0, 0, 0, 0, 1, 1, 2}));
  EXPECT_EQ(graph.keys, (std::vector<std::int32_t>{3, 6}));
  EXPECT_EQ(graph.weights_f64, (std::vector<double>{0.2743871188233156, 0.33142207205256036}));
}

}  // namespace
}  // namespace ag::test
