// SPDX-License-Identifier: Apache-2.0
// What must hold between answers, whatever the numbers are.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>
#include <vector>

#include "support/compare.hpp"
#include "support/inputs.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

class Properties : public EveryBackend {
 protected:
  // On the CPU what a row yields depends on the row alone, bit for bit. On a GPU the rows that a call holds beside it
  // decide in which order its scores are added up: then rows of different calls are equal within rounding.
  bool rows_stand_alone() const { return backend().kind() == "cpu"; }
  void expect_same_value(double actual, double expected) const {
    if (rows_stand_alone()) {
      EXPECT_EQ(actual, expected);
    } else {
      EXPECT_TRUE(close(actual, expected, 1e-5, 1e-12)) << actual << ", expected " << expected;
    }
  }
};
ATTNGRAPH_EVERY_BACKEND(Properties);

Case many_tiles() {
  return {.name = "many_tiles",
          .seed = 7,
          .batch = 2,
          .query_heads = 4,
          .key_heads = 2,
          .queries = 150,
          .keys = 700,
          .head_dim = 40,
          .threshold = 0.01,
          .causal = true,
          .query_offset = 550,
          .stats = {true, true, true}};
}

TEST_P(Properties, ARowHasAtMostOneOverThresholdEdges) {
  Case c = many_tiles();
  c.spread = 0.3;
  for (const double threshold : {0.3, 0.1, 0.01, 0.003}) {
    c.threshold = threshold;
    const Inputs inputs(c);
    const EdgeList graph = run_extract(backend(), inputs.problem());
    for (std::size_t n = 0; n + 1 < graph.offsets.size(); ++n) {
      EXPECT_LE(graph.offsets[n + 1] - graph.offsets[n], static_cast<std::int64_t>(1 / threshold));
    }
    // Weights are relative to a logsumexp that is off by at most eps: tensor cores cut off, so it is a little small.
    const double most = std::exp(graph.report.eps) * (1 + 1e-12);
    const auto within = [most](double mass) { return mass <= most; };
    EXPECT_TRUE(std::all_of(graph.rows.kept_mass.begin(), graph.rows.kept_mass.end(), within));
  }
}

TEST_P(Properties, PermutingKeysPermutesEdges) {
  Case c = many_tiles();
  c.batch = 1;
  c.causal = false;
  c.stats = {};
  Inputs inputs(c);
  const Problem& problem = inputs.problem();
  std::vector<std::int64_t> from(static_cast<std::size_t>(c.keys));  // permuted key j is key from[j]
  std::iota(from.begin(), from.end(), std::int64_t{0});
  Random random(11);
  for (std::size_t n = from.size(); n > 1; --n) {
    std::swap(from[n - 1], from[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(n)))]);
  }
  std::vector<double> values;
  for (std::int64_t h = 0; h < c.key_heads; ++h) {
    for (const std::int64_t j : from) {
      for (std::int64_t d = 0; d < c.head_dim; ++d) values.push_back(load_double(c.dtype, problem.k.at(0, h, j, d)));
    }
  }
  const Tensor permuted(c.dtype, {1, c.key_heads, c.keys, c.head_dim}, values);
  Problem other = problem;
  other.k = permuted.view();

  EdgeList actual = run_extract(backend(), other);
  for (std::int32_t& key : actual.rows.max_key) key = static_cast<std::int32_t>(from[static_cast<std::size_t>(key)]);
  for (const Slice& slice : actual.slices) {
    for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
      const auto place = static_cast<std::size_t>(slice.first_offset + r);
      std::vector<std::pair<std::int32_t, float>> row;
      const auto begin = static_cast<std::size_t>(slice.first_edge + actual.offsets[place]);
      const auto end = static_cast<std::size_t>(slice.first_edge + actual.offsets[place + 1]);
      for (std::size_t e = begin; e < end; ++e) {
        row.emplace_back(from[static_cast<std::size_t>(actual.keys[e])], actual.weights_f32[e]);
      }
      std::sort(row.begin(), row.end());
      for (std::size_t e = begin; e < end; ++e) {
        std::tie(actual.keys[e], actual.weights_f32[e]) = row[e - begin];
      }
    }
  }
  expect_same_graph(actual, run_extract(backend(), problem), problem);
}

TEST_P(Properties, ScalingQueriesEqualsScalingScores) {
  const Case c = many_tiles();
  const Inputs inputs(c);
  const EdgeList expected = run_extract(backend(), inputs.problem());
  for (const double factor : {0.25, 2.0, 1024.0}) {
    std::vector<double> values;
    Inputs scaled(c);
    for (std::size_t n = 0; n < scaled.q().size(); ++n) values.push_back(scaled.q().value(n) * factor);
    const Tensor q(c.dtype, {c.batch, c.query_heads, c.queries, c.head_dim}, values);
    Problem problem = scaled.problem();
    problem.q = q.view();
    problem.scale /= factor;
    // A power of two changes no rounding.
    expect_identical_edges(run_extract(backend(), problem), expected);
  }
}

TEST_P(Properties, QueryRangesGiveTheSameRows) {
  Inputs inputs(many_tiles());
  const EdgeList whole = run_extract(backend(), inputs.problem());
  const std::int64_t cuts[] = {0, 1, 14, 15, 100, 149, 150};
  for (std::size_t n = 0; n + 1 < std::size(cuts); ++n) {
    inputs.problem().query_begin = cuts[n];
    inputs.problem().query_end = cuts[n + 1];
    const EdgeList part = run_extract(backend(), inputs.problem());
    ASSERT_EQ(part.slices.size(), whole.slices.size());
    for (std::size_t s = 0; s < part.slices.size(); ++s) {
      const Slice& a = part.slices[s];
      const Slice& w = whole.slices[s];
      EXPECT_TRUE(a.info.id == w.info.id);
      for (std::int64_t i = cuts[n]; i < cuts[n + 1]; ++i) {
        SCOPED_TRACE(row_name(w.info, i));
        const auto pa = static_cast<std::size_t>(a.first_offset + i - cuts[n]);
        const auto pw = static_cast<std::size_t>(w.first_offset + i);
        const std::int64_t count = part.offsets[pa + 1] - part.offsets[pa];
        ASSERT_EQ(count, whole.offsets[pw + 1] - whole.offsets[pw]);
        for (std::int64_t e = 0; e < count; ++e) {
          const auto ea = static_cast<std::size_t>(a.first_edge + part.offsets[pa] + e);
          const auto ew = static_cast<std::size_t>(w.first_edge + whole.offsets[pw] + e);
          EXPECT_EQ(part.keys[ea], whole.keys[ew]);
          expect_same_value(part.weights_f32[ea], whole.weights_f32[ew]);
        }
        const auto ra = static_cast<std::size_t>(a.first_row + i - cuts[n]);
        const auto rw = static_cast<std::size_t>(w.first_row + i);
        expect_same_value(part.rows.logsumexp[ra], whole.rows.logsumexp[rw]);
        expect_same_value(part.rows.maximum[ra], whole.rows.maximum[rw]);
        EXPECT_EQ(part.rows.max_key[ra], whole.rows.max_key[rw]);
        expect_same_value(part.rows.kept_mass[ra], whole.rows.kept_mass[rw]);
        expect_same_value(part.rows.entropy[ra], whole.rows.entropy[rw]);
      }
    }
  }
}

TEST_P(Properties, GroupedQueriesEqualExpandedHeads) {
  const Case c = many_tiles();
  const Inputs inputs(c);
  const Problem& problem = inputs.problem();
  std::vector<double> values;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t h = 0; h < c.query_heads; ++h) {
      for (std::int64_t j = 0; j < c.keys; ++j) {
        for (std::int64_t d = 0; d < c.head_dim; ++d) {
          values.push_back(load_double(c.dtype, problem.k.at(b, problem.key_head_of(h), j, d)));
        }
      }
    }
  }
  const Tensor expanded(c.dtype, {c.batch, c.query_heads, c.keys, c.head_dim}, values);
  Problem other = problem;
  other.k = expanded.view();
  const EdgeList actual = run_extract(backend(), other), expected = run_extract(backend(), problem);
  if (rows_stand_alone()) {
    expect_identical_edges(actual, expected);
  } else {
    expect_same_graph(actual, expected, problem);
  }
}

TEST_P(Properties, ChosenHeadsAreTheSameAsAmongAll) {
  Inputs inputs(many_tiles());
  const EdgeList all = run_extract(backend(), inputs.problem());
  for (std::int64_t h = 0; h < 4; ++h) {
    inputs.problem().heads = {h};
    const EdgeList one = run_extract(backend(), inputs.problem());
    ASSERT_EQ(one.slices.size(), 2u);
    for (std::size_t b = 0; b < 2; ++b) {
      const Slice& a = one.slices[b];
      const Slice& w = all.slices[4 * b + static_cast<std::size_t>(h)];
      EXPECT_TRUE(a.info == w.info);
      ASSERT_EQ(a.edge_count, w.edge_count);
      EXPECT_TRUE(std::equal(one.keys.begin() + a.first_edge, one.keys.begin() + a.first_edge + a.edge_count,
                             all.keys.begin() + w.first_edge));
      // The rows of a slice may be added up in other groups when fewer heads share them.
      const double relative = rows_stand_alone() ? 1e-12 : 1e-5;
      expect_same_sums(a.sums.received, w.sums.received, relative, "received by key");
      expect_same_sums(a.sums.distances, w.sums.distances, relative, "mass at distance");
    }
  }
}

TEST_P(Properties, GivenLogsumexpEqualsComputed) {
  const Case c = many_tiles();
  const Inputs inputs(c);
  const EdgeList computed = run_extract(backend(), inputs.problem());
  for (const double unit : {1.0, std::log(2.0)}) {
    std::vector<double> values;
    for (const double lse : computed.rows.logsumexp) values.push_back(lse / unit);
    const Tensor lse(DType::kF64, {c.batch, c.query_heads, c.queries}, values);
    Problem problem = inputs.problem();
    problem.logsumexp = lse.view();
    problem.logsumexp_unit = unit;
    expect_same_graph(run_extract(backend(), problem), computed, problem);
  }
}

// Above 1e12 a score in double does not know its weight any more when a logsumexp is given.
TEST_P(Properties, AGivenLogsumexpLimitsTheScores) {
  Inputs inputs({.name = "given", .dtype = DType::kF64, .queries = 3, .keys = 20, .head_dim = 4, .scale = 1.0});
  const std::size_t queries = inputs.q().size(), keys = inputs.k().size();
  for (std::size_t n = 0; n < queries; ++n) inputs.q().set(n, n % 4 == 0 ? 1e6 : 0.0);
  for (std::size_t n = 0; n < keys; ++n) inputs.k().set(n, n % 4 == 0 ? 0.999e6 : 0.0);
  const Tensor lse(DType::kF64, {1, 1, 3}, std::vector<double>(3, 0.999e12));
  Problem& problem = inputs.problem();
  problem.logsumexp = lse.view();
  EXPECT_EQ(run_extract(backend(), problem).edge_count(), 60);
  problem.scale = 1.01;
  const Failure failure = failure_of([&] { run_extract(backend(), problem); });
  EXPECT_EQ(failure.status, Status::kRange) << failure.message;
  EXPECT_NE(failure.message.find("lse is given"), std::string::npos) << failure.message;
  problem.softcap = 30;
  EXPECT_EQ(failure_of([&] { run_extract(backend(), problem); }).status, Status::kOk) << "a softcap holds scores down";
  problem.softcap = 0;
  problem.logsumexp = {};
  EXPECT_EQ(failure_of([&] { run_extract(backend(), problem); }).status, Status::kOk) << "their own logsumexp";
}

// What certified decisions go by: a row's band, of which the report's is the widest.
TEST_P(Properties, RowsStateTheirBand) {
  struct Bands : RowSink {
    void begin_slice(const SliceInfo&, DType) override {}
    void rows(const RowBlock& block) override {
      for (std::int64_t r = 0; r < block.row_count; ++r) {
        if (block.stats[r].max_key >= 0) bands.push_back(block.stats[r].eps);
      }
    }
    void end_slice(const SliceSums&) override {}
    std::vector<double> bands;
  };
  const Inputs inputs(many_tiles());
  Bands sink;
  Control control;
  const RunReport report = backend().extract(inputs.problem(), plan_for(backend(), inputs.problem()), sink, control);
  ASSERT_FALSE(sink.bands.empty());
  if (backend().name() == "reference") return;  // the definition states none
  double widest = 0;
  for (const double band : sink.bands) {
    ASSERT_GE(band, 0.0) << "stated";
    widest = std::max(widest, band);
  }
  EXPECT_GE(widest, report.eps);
  EXPECT_LE(widest, report.eps * (1 + 1e-6));
}

TEST_P(Properties, ThreadsDoNotChangeTheAnswer) {
  for (const bool second_pass : {false, true}) {
    Case c = many_tiles();
    if (!second_pass) c.stats = {};
    const Inputs inputs(c);
    const EdgeList one = run_extract(backend(), inputs.problem(), 1);
    for (const int threads : {2, 3, 8}) {
      SCOPED_TRACE(threads);
      const EdgeList many = run_extract(backend(), inputs.problem(), threads);
      expect_identical_edges(many, one);
      EXPECT_EQ(many.rows.logsumexp, one.rows.logsumexp);
      EXPECT_EQ(many.rows.maximum, one.rows.maximum);
      EXPECT_EQ(many.rows.kept_mass, one.rows.kept_mass);
      EXPECT_EQ(many.rows.max_key, one.rows.max_key);
      if (second_pass) {
        EXPECT_EQ(many.rows.entropy, one.rows.entropy);
      }
      EXPECT_EQ(many.report.eps, one.report.eps);
      EXPECT_EQ(many.report.borderline, one.report.borderline);
      EXPECT_EQ(many.report.kept_mass_sum, one.report.kept_mass_sum);
      for (std::size_t s = 0; s < one.slices.size(); ++s) {
        EXPECT_EQ(many.slices[s].sums.received, one.slices[s].sums.received);
        EXPECT_EQ(many.slices[s].sums.distances, one.slices[s].sums.distances);
      }
    }
  }
}

TEST_P(Properties, CallsAtTheSameTimeDoNotDisturbEachOther) {
  const Inputs inputs(many_tiles());
  const EdgeList expected = run_extract(backend(), inputs.problem());
  std::vector<EdgeList> answers(3);
  std::vector<std::thread> threads;
  for (EdgeList& answer : answers) {
    threads.emplace_back([&] { answer = run_extract(backend(), inputs.problem(), 2); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const EdgeList& answer : answers) expect_identical_edges(answer, expected);
}

// Without products, and with a slope of ln 2, each key weighs half of the one before it: by pencil.
TEST_P(Properties, ASlopeOfLn2HalvesWeightsWithEveryStep) {
  const Tensor q(DType::kF32, {1, 2, 4, 8}, std::vector<double>(64, 0)),
      k(DType::kF32, {1, 1, 6, 8}, std::vector<double>(48, 1));
  Problem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.heads = {0, 1};
  problem.query_end = 4;
  problem.mask.causal = true;
  problem.mask.query_offset = 2;  // the last query stands at the last key
  problem.alibi = {std::log(2.0), 0};
  problem.selection.threshold = 0.1;
  const EdgeList graph = run_extract(backend(), problem);
  const auto row = [&](std::int64_t r) {  // of the first head
    const std::int64_t from = graph.offsets[static_cast<std::size_t>(r)],
                       to = graph.offsets[static_cast<std::size_t>(r + 1)];
    std::vector<std::pair<int, double>> found;
    for (std::int64_t e = from; e < to; ++e)
      found.emplace_back(graph.keys[static_cast<std::size_t>(e)],
                         std::round(graph.weight(e) * 63 * 15 * 7) / (63 * 15 * 7));
    return found;
  };
  using Row = std::vector<std::pair<int, double>>;
  EXPECT_EQ(row(0), (Row{{0, 1.0 / 7}, {1, 2.0 / 7}, {2, 4.0 / 7}}));
  EXPECT_EQ(row(1), (Row{{1, 2.0 / 15}, {2, 4.0 / 15}, {3, 8.0 / 15}}));
  EXPECT_EQ(row(3), (Row{{3, 8.0 / 63}, {4, 16.0 / 63}, {5, 32.0 / 63}}));
  EXPECT_NEAR(graph.rows.logsumexp[3], std::log(63.0 / 32), 1e-6) << "0 at the query's own key, less ln 2 a step";
  for (std::int64_t e = graph.slices[1].first_edge; e < graph.edge_count(); ++e)
    EXPECT_NEAR(graph.weight(e) * std::round(1 / graph.weight(e)), 1, 1e-6) << "the other head has no slope";

  problem.mask.causal = false;  // to both sides
  problem.query_begin = 1;
  problem.query_end = 2;
  const EdgeList both = run_extract(backend(), problem);  // at key 3 of 0 to 5: 1/8 1/4 1/2 1 1/2 1/4, of 21/8
  ASSERT_EQ(both.slices[1].first_edge, 3);
  EXPECT_EQ(std::vector(both.keys.begin(), both.keys.begin() + 3), (std::vector<std::int32_t>{2, 3, 4}));
  EXPECT_NEAR(both.weight(1), 8.0 / 21, 1e-6);
  EXPECT_NEAR(both.weight(2), 4.0 / 21, 1e-6);
}

TEST_P(Properties, WeightsOfScoresUpTo50AreWithin2em5) {
  // Scores of row i run evenly over [-50, 50] or a part of it, as products of D numbers that cancel.
  constexpr std::int64_t kKeys = 500, kDim = 64;
  Random random(5);
  std::vector<double> q, k;
  for (std::int64_t i = 0; i < 4; ++i) {
    for (std::int64_t d = 0; d < kDim; ++d) q.push_back(d % 2 == 0 ? 1.0 + 0.1 * static_cast<double>(i) : 1.0);
  }
  for (std::int64_t j = 0; j < kKeys; ++j) {
    const double score = -38 + 76 * static_cast<double>(j) / (kKeys - 1);
    for (std::int64_t d = 0; d < kDim; ++d) k.push_back((score + 3 * random.normal()) / 8);
  }
  const Tensor queries(DType::kF32, {1, 1, 4, kDim}, q), keys(DType::kF32, {1, 1, kKeys, kDim}, k);
  Problem problem;
  problem.q = queries.view();
  problem.k = keys.view();
  problem.scale = 1.0 / 8;
  problem.heads = {0};
  problem.query_end = 4;
  const EdgeList graph = run_extract(backend(), problem);
  ASSERT_EQ(graph.edge_count(), 4 * kKeys);
  double largest = 0;
  for (std::int64_t i = 0; i < 4; ++i) {
    const ExactRow row = exact_row(problem, 0, 0, i);
    for (std::size_t j = 0; j < static_cast<std::size_t>(kKeys); ++j) {
      largest = std::max(largest, std::abs(static_cast<double>(row.score[j])));
      const double exact = static_cast<double>(row.weight[j]);
      EXPECT_TRUE(close(graph.weight(i * kKeys + static_cast<std::int64_t>(j)), exact, 2e-5, kSmallestWeight))
          << "query " << i << ", key " << j << ", score " << static_cast<double>(row.score[j]);
    }
  }
  EXPECT_GT(largest, 40);
  EXPECT_LT(largest, 60);
}

}  // namespace
}  // namespace ag::test
