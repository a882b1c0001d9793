// SPDX-License-Identifier: Apache-2.0
// Rows as a single-precision pass hands them over: states off by rounding, candidates that the final sum rules out, in
// any order. What finish_rows makes of them equals the definition.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "extract_on_device.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kBand = 1e-3;  // of the pass that is played here, in nats

// What a pass in single precision could say of a chunk.
struct PlayedPass {
  PlayedPass(const Problem& p, const DeviceChunk& made, bool ascending, std::uint64_t seed)
      : arrays(made.chunk.rows(), std::max<std::int64_t>(1, p.keys())) {
    Random random(seed);
    const std::int64_t rows = made.chunk.rows();
    const auto at = [&](std::int64_t n) { return static_cast<std::size_t>(n); };
    std::vector<double> reference(at(rows)), sum(at(rows)), weighted(at(rows));
    std::vector<std::int32_t> max_key(at(rows), 0x7FFFFFFF), count(at(rows));
    std::vector<std::int32_t> keys(at(rows * arrays.candidates.capacity), -7);
    std::vector<float> scores(keys.size(), std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t h = made.heads[at(r / made.chunk.queries)];
      const ExactRow row = exact_row(p, made.batch, h, made.chunk.query_begin + r % made.chunk.queries);
      std::vector<double> score(at(p.keys()), -kInfinity);
      double maximum = -kInfinity;
      for (std::int64_t j = 0; j < p.keys(); ++j) {
        if (!row.allowed[at(j)]) continue;
        const auto exact = static_cast<double>(row.score[at(j)]);
        score[at(j)] = static_cast<double>(static_cast<float>(exact + kBand / 8 * (random.uniform() - 0.5)));
        if (score[at(j)] <= maximum) continue;
        maximum = score[at(j)];
        max_key[at(r)] = static_cast<std::int32_t>(j);
      }
      if (maximum == -kInfinity) continue;
      reference[at(r)] = std::log(2.0) * std::ceil(maximum / std::log(2.0));
      for (std::int64_t j = 0; j < p.keys(); ++j) {
        const double x = score[at(j)] - reference[at(r)];
        if (x == -kInfinity) continue;
        sum[at(r)] += std::exp(x);
        weighted[at(r)] += std::exp(x) * x;
      }
      std::vector<std::int32_t> found;
      for (std::int64_t j = 0; j < p.keys(); ++j) {
        const double margin = score[at(j)] - reference[at(r)] - std::log(sum[at(r)]) - std::log(p.selection.threshold);
        if (score[at(j)] == -kInfinity) continue;
        if (p.logsumexp || margin >= -kBand) found.push_back(static_cast<std::int32_t>(j));
      }
      if (!ascending) {
        for (std::size_t n = found.size(); n > 1; --n) {
          std::swap(found[n - 1], found[at(random.below(static_cast<std::int64_t>(n)))]);
        }
      }
      count[at(r)] = static_cast<std::int32_t>(found.size());
      for (std::size_t n = 0; n < found.size(); ++n) {
        const std::size_t place = at(r * arrays.candidates.capacity) + n;
        keys[place] = found[n];
        scores[place] = static_cast<float>(score[at(found[n])] / std::log(2.0));
      }
    }
    arrays.reference.upload(reference);
    arrays.sum.upload(sum);
    arrays.weighted.upload(weighted);
    arrays.max_key.upload(max_key);
    arrays.count.upload(count);
    arrays.keys.upload(keys);
    arrays.scores.upload(scores);
  }
  PassArrays arrays;
};

EdgeList extract_by_played_pass(const Problem& p, bool ascending, std::int64_t queries) {
  const DeviceProblem device(p);
  CollectSink sink;
  RunReport report;
  for (std::int64_t b = 0; b < p.batch(); ++b) {
    for (const std::int64_t h : p.heads) {
      sink.begin_slice({{b, p.layer, h}, p.query_begin, p.query_end - p.query_begin, p.keys()}, DType::kF32);
      for (std::int64_t i = p.query_begin; i < p.query_end; i += queries) {
        DeviceChunk made = device.chunk(b, {h}, i, std::min(i + queries, p.query_end));
        cuda::BandModel model;
        model.constant = kBand / 2;
        const bool additive = p.mask.tensor && is_float(p.mask.tensor.dtype);
        if (additive) model.bias_unit = 0x1p-23;
        const PlayedPass pass(p, made, ascending, static_cast<std::uint64_t>(17 * i + h));
        const FinishedChunk done = finish_chunk(p, made, model, pass.arrays, false);
        EXPECT_EQ(done.report.rows_overflowed, 0u);
        EXPECT_FALSE(done.report.weight.found());
        report.eps = std::max(report.eps, done.report.eps());
        report.borderline += static_cast<std::int64_t>(done.report.borderline);
        report.add_rows(done.stats.view(), made.chunk.queries);
        sink.rows({i, made.chunk.queries, done.offsets.data(), done.keys.data(), done.weights.data(), DType::kF32,
                   done.stats.view()});
      }
      sink.end_slice({});
    }
  }
  sink.finish(report);
  return sink.take();
}

// Statistics of a pass that is off by the band.
constexpr Tolerance kTolerance{.weight = 2 * kBand, .score = kBand};

std::vector<Case> finish_cases() {
  std::vector<Case> cases;
  for (Case c : extract_cases()) {
    const std::int64_t pairs = c.batch * c.query_heads * c.queries * c.keys;
    c.stats.columns = c.stats.distances = false;
    // Without a threshold nothing is a candidate for its weight.
    if (c.top_k == 0 && c.mass == 0 && c.threshold > 0 && pairs <= 15'000 && c.queries > 0) cases.push_back(c);
  }
  return cases;
}

class FinishRowsCases : public ::testing::TestWithParam<Case> {};

TEST_P(FinishRowsCases, EqualTheDefinition) {
  const Inputs inputs(GetParam());
  const EdgeList expected = oracle_extract(inputs.problem());
  for (const bool ascending : {true, false}) {
    SCOPED_TRACE(ascending);
    const EdgeList actual = extract_by_played_pass(inputs.problem(), ascending, 64);
    expect_same_graph(actual, expected, inputs.problem(), kTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(, FinishRowsCases, ::testing::ValuesIn(finish_cases()),
                         [](const auto& test) { return test_name(test.param.name); });

TEST(FinishRows, EveryScheduleGivesTheSameBits) {
  const Inputs inputs({.name = "schedules", .queries = 30, .keys = 90, .stats = {.entropy = true}});
  const EdgeList expected = extract_by_played_pass(inputs.problem(), false, 64);
  for_every_schedule([&] {
    const EdgeList actual = extract_by_played_pass(inputs.problem(), false, 64);
    expect_identical_edges(actual, expected);
    EXPECT_EQ(actual.rows.kept_mass, expected.rows.kept_mass);
    EXPECT_EQ(actual.rows.entropy, expected.rows.entropy);
    EXPECT_EQ(actual.rows.maximum, expected.rows.maximum);
    EXPECT_EQ(actual.report.eps, expected.report.eps);
    EXPECT_EQ(actual.report.borderline, expected.report.borderline);
  });
}

// One query, one key head, D = 1: score of key j is k[j] itself.
struct OneRow {
  explicit OneRow(const std::vector<double>& scores, double threshold)
      : inputs({.name = "one",
                .dtype = DType::kF64,
                .queries = 1,
                .keys = static_cast<std::int64_t>(scores.size()),
                .head_dim = 1,
                .scale = 1.0,
                .threshold = threshold}) {
    inputs.q().set(0, 1.0);
    for (std::size_t j = 0; j < scores.size(); ++j) inputs.k().set(j, scores[j]);
  }
  // All keys are candidates; the sum is exact, but for a factor.
  FinishedChunk finish(double band, const std::vector<double>& given = {}, double sum_factor = 1) {
    const Problem& p = inputs.problem();
    const DeviceProblem device(p);
    DeviceChunk made = device.chunk(0, {0}, 0, 1);
    if (!given.empty()) {
      made.given = DeviceArray<double>(given);
      made.chunk.given_logsumexp = made.given.data();
    }
    const ExactRow row = exact_row(p, 0, 0, 0);
    const auto n = static_cast<std::size_t>(p.keys());
    const PassArrays pass(1, p.keys());
    std::vector<std::int32_t> keys(n);
    std::vector<float> scores(n);
    std::size_t largest = 0;
    for (std::size_t j = 0; j < n; ++j) {
      keys[j] = static_cast<std::int32_t>(j);
      scores[j] = static_cast<float>(static_cast<double>(row.score[j]) / std::log(2.0));
      if (row.score[j] > row.score[largest]) largest = j;
    }
    const double reference = static_cast<double>(row.score[largest]);
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += std::exp(static_cast<double>(row.score[j]) - reference);
    upload(pass.reference, {reference});
    upload(pass.sum, {sum * sum_factor});
    upload(pass.weighted, {0.0});
    upload(pass.max_key, {static_cast<std::int32_t>(largest)});
    upload(pass.count, {static_cast<std::int32_t>(n)});
    upload(pass.keys, keys);
    upload(pass.scores, scores);
    cuda::BandModel model;
    model.constant = band / 2;
    return finish_chunk(p, made, model, pass, true);
  }
  template <class T>
  static void upload(const DeviceArray<T>& to, const std::vector<T>& values) {
    cuda_ok(cudaMemcpy(to.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  Inputs inputs;
};

TEST(FinishRows, PairsWithinTheBandAreCounted) {
  // Weights e^s / sum; the threshold is key 1's own weight, so its margin is 0; keys 2 and 3 stand 1e-4 off it.
  std::vector<double> scores{3.0, 1.0, 1.0001, 0.9999, 0.0};
  double sum = 0;
  for (const double s : scores) sum += std::exp(s);
  OneRow row(scores, std::exp(1.0) / sum);
  EXPECT_EQ(row.finish(1e-6).report.borderline, 1u);
  EXPECT_EQ(row.finish(1e-3).report.borderline, 3u);
  EXPECT_EQ(row.finish(3e-4).report.borderline, 3u) << "eps is 1.5e-4";
  EXPECT_EQ(row.finish(1e-4).report.borderline, 1u) << "eps is 0.5e-4";
  EXPECT_EQ(row.finish(10.0).report.borderline, 5u);
  EXPECT_NEAR(row.finish(1e-3).report.eps(), 0.5e-3, 1e-8) << "the score is exact by now: half of the pass's band";
}

TEST(FinishRows, ASoftmaxWeightIsAtMostOne) {
  OneRow row({10.0, -20.0}, 0.1);
  const double small = 1 - 1e-5;  // as a sum whose products were cut off towards zero
  EXPECT_EQ(row.finish(1e-3, {}, small).weights, std::vector<float>{1.0f});
  EXPECT_EQ(row.finish(1e-3, {}, small).stats.columns.kept_mass[0], 1.0);
  const float above = row.finish(1e-3, {10 - 1e-5}).weights[0];
  EXPECT_NEAR(above, 1 + 1e-5, 1e-6) << "a given logsumexp may be that of other scores: that shows";
}

TEST(FinishRows, ARowStatesItsBand) {
  OneRow row({3.0, 1.0, 0.5}, 0.2);
  const FinishedChunk done = row.finish(1e-3);
  EXPECT_GE(done.stats.view()[0].eps, done.report.eps());
  EXPECT_LE(done.stats.view()[0].eps, done.report.eps() * (1 + 0x1p-23));
}

TEST(FinishRows, AWeightThatNoFloatHoldsIsAFault) {
  OneRow row({1.0, 100.0, 95.0, 2.0}, 0.1);
  EXPECT_FALSE(row.finish(1e-6, {20.0}).report.weight.found()) << "e^80 is a float";
  const cuda::FinishReport report = row.finish(1e-6, {5.0}).report;
  ASSERT_TRUE(report.weight.found());
  EXPECT_EQ(report.weight.place(), 1) << "row 0 times 4 keys, and key 1: the first of two";
  EXPECT_NEAR(report.weight.value, 95.0, 1e-12);
}

TEST(FinishRows, EqualCandidatesAreNoTieWhenOtherKeysWeigh) {
  // Two equal keys and a third: not uniform, decided by the margin.
  OneRow row({1.0, 1.0, -20.0}, 0.5);
  EXPECT_EQ(row.finish(1e-6).keys.size(), 0u) << "1 / (2 + e^-21) is below a half";
  OneRow tie({1.0, 1.0}, 0.5);
  EXPECT_EQ(tie.finish(1e-6).keys.size(), 2u);
}

TEST(FinishRows, ARowWithoutAMaximumIsABugOfThePass) {
  OneRow row({1.0, 2.0}, 0.1);
  const Problem& p = row.inputs.problem();
  const DeviceProblem device(p);
  DeviceChunk made = device.chunk(0, {0}, 0, 1);
  cuda::BandModel model;
  model.constant = kBand / 2;
  PlayedPass pass(p, made, true, 1);
  pass.arrays.max_key.upload({0x7FFFFFFF});
  EXPECT_EQ(finish_chunk(p, made, model, pass.arrays, false).report.rows_overflowed, 1u);
}

}  // namespace
}  // namespace ag::test
