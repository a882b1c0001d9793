// SPDX-License-Identifier: Apache-2.0
// Every operation against its definition, written as plain loops over a flat table of edges.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <tuple>

#include "core/error.hpp"
#include "graph/operations.hpp"
#include "graphs.hpp"

namespace ag {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

auto as_tuple(const Edge& e) { return std::make_tuple(e.slice, e.query, e.key, e.weight); }

bool same_edges(const std::vector<Edge>& a, const std::vector<Edge>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Edge& x, const Edge& y) { return as_tuple(x) == as_tuple(y); });
}

class EveryDtype : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Graph, EveryDtype, testing::Values(DType::kF32, DType::kF64),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST_P(EveryDtype, TopIsTheSortedTableCutOff) {
  const EdgeList graph = random_graph(1, GetParam());
  std::vector<Edge> sorted = table_of(graph);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Edge& a, const Edge& b) {
    if (a.weight != b.weight) return a.weight > b.weight;
    return std::tie(a.slice, a.query, a.key) < std::tie(b.slice, b.query, b.key);
  });
  ASSERT_GT(sorted.size(), 100u);
  for (const std::int64_t n : {std::int64_t{0}, std::int64_t{1}, std::int64_t{7}, graph.edge_count() - 1,
                               graph.edge_count(), graph.edge_count() + 5, std::numeric_limits<std::int64_t>::max()}) {
    const auto count = static_cast<std::ptrdiff_t>(std::min(n, graph.edge_count()));
    EXPECT_TRUE(same_edges(top(graph, n), {sorted.begin(), sorted.begin() + count})) << "n = " << n;
  }
}

TEST(Top, TiesComeInTableOrderWhateverTheOrderOfSlices) {
  GraphBuilder builder;
  builder.slice({1, 0, 0}, 0, 4).row({{0, 0.5}, {3, 0.5}});
  builder.slice({0, 2, 0}, 0, 4).row({{1, 0.5}});
  builder.slice({0, 1, 3}, 0, 4).row({{2, 0.25}}).row({{1, 0.5}, {2, 0.5}});
  const EdgeList graph = builder.build();
  const std::vector<Edge> expected{{{0, 1, 3}, 1, 1, 0.5}, {{0, 1, 3}, 1, 2, 0.5}, {{0, 2, 0}, 0, 1, 0.5},
                                   {{1, 0, 0}, 0, 0, 0.5}, {{1, 0, 0}, 0, 3, 0.5}, {{0, 1, 3}, 0, 2, 0.25}};
  for (std::size_t n = 0; n <= expected.size(); ++n) {
    EXPECT_TRUE(same_edges(top(graph, static_cast<std::int64_t>(n)),
                           {expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(n)}))
        << "n = " << n;
  }
}

TEST(Top, OfAnEmptyGraphIsEmpty) {
  EXPECT_TRUE(top(EdgeList{}, 5).empty());
  EXPECT_TRUE(top(random_graph(1), 0).empty());
  EXPECT_TRUE(top(random_graph(1), -1).empty());
}

SweepRow sweep_by_definition(const EdgeList& graph, double threshold) {
  SweepRow row;
  row.threshold = threshold;
  std::int64_t rows_with_keys = 0;
  for (const Slice& slice : graph.slices) {
    std::set<std::int64_t> nodes;
    for (const Edge& e : table_of(graph, slice)) {
      if (e.weight < threshold) continue;
      row.edges += 1;
      row.kept_mass += e.weight;
      nodes.insert(e.query);
      nodes.insert(e.key);
    }
    row.nodes += static_cast<std::int64_t>(nodes.size());
    for (std::int64_t r = 0; r < slice.info.query_count; ++r)
      rows_with_keys += graph.rows.max_key[static_cast<std::size_t>(slice.first_row + r)] >= 0 ? 1 : 0;
  }
  row.kept_mass /= static_cast<double>(std::max<std::int64_t>(rows_with_keys, 1));
  return row;
}

TEST_P(EveryDtype, SweepCountsWhatEachThresholdKeeps) {
  const EdgeList graph = random_graph(2, GetParam());
  const std::vector<double> thresholds{0.2, 0.05, 0.1, 0.2, 0.0, 0.9, 0.125, 2.0, 0.0};  // unsorted, repeated
  const std::vector<SweepRow> rows = sweep(graph, thresholds);
  ASSERT_EQ(rows.size(), thresholds.size());
  for (std::size_t n = 0; n < rows.size(); ++n) {
    const SweepRow expected = sweep_by_definition(graph, thresholds[n]);
    EXPECT_EQ(rows[n].threshold, thresholds[n]);
    EXPECT_EQ(rows[n].edges, expected.edges) << thresholds[n];
    EXPECT_EQ(rows[n].nodes, expected.nodes) << thresholds[n];
    EXPECT_NEAR(rows[n].kept_mass, expected.kept_mass, 1e-12) << thresholds[n];
  }
}

TEST(Sweep, AThresholdThatAWeightEqualsKeepsIt) {
  GraphBuilder builder;
  builder.slice({0, 0, 0}, 0, 2).row({{0, 0.25}, {1, 0.75}});
  const std::vector<SweepRow> rows =
      sweep(builder.build(), std::vector{0.25, std::nextafter(0.25, 1.0), 0.75, std::nextafter(0.75, 1.0)});
  EXPECT_EQ(rows[0].edges, 2);
  EXPECT_EQ(rows[1].edges, 1);
  EXPECT_EQ(rows[2].edges, 1);
  EXPECT_EQ(rows[3].edges, 0);
}

TEST(Sweep, WithoutThresholdsOrEdges) {
  EXPECT_TRUE(sweep(random_graph(1), {}).empty());
  for (const SweepRow& row : sweep(EdgeList{}, std::vector{0.0, 0.5})) {
    EXPECT_EQ(row.edges, 0);
    EXPECT_EQ(row.nodes, 0);
    EXPECT_EQ(row.kept_mass, 0);
  }
}

TEST(Sweep, ExactTiesOfASoftmaxSurviveTheRoundingOfTheirWeights) {
  // 1 / 100 rounded to f32 lies below 0.01. A softmax row of 100 equal keys has 100 edges at 0.01 all the same.
  GraphBuilder builder;
  std::vector<KeyWeight> row;
  for (std::int32_t j = 0; j < 100; ++j) row.push_back({j, 0.01});
  builder.slice({0, 0, 0}, 0, 100).row(row);
  EdgeList graph = builder.build();
  ASSERT_LT(graph.weight(0), 0.01);
  const std::vector<double> thresholds{0.01};
  EXPECT_EQ(sweep(graph, thresholds)[0].edges, 0) << "nothing says that the weights are rounded";
  graph.metadata.facts["weights"] = "matrix";
  EXPECT_EQ(sweep(graph, thresholds)[0].edges, 0) << "stored weights of a matrix are exact";
  EXPECT_EQ(part_of(graph, {.threshold = 0.01}).edge_count(), 0);
  graph.metadata.facts["weights"] = "softmax";
  EXPECT_EQ(sweep(graph, thresholds)[0].edges, 100);
  EXPECT_EQ(part_of(graph, {.threshold = 0.01}).edge_count(), 100);
  graph.metadata.facts = {{"threshold", "0.01"}};
  EXPECT_EQ(sweep(graph, thresholds)[0].edges, 100) << "they passed this threshold when they were made";
}

TEST(Sweep, PositionsMayLieAnywhere) {
  GraphBuilder builder;
  builder.slice({0, 0, 0}, std::int64_t{1} << 60, std::numeric_limits<std::int32_t>::max())
      .row({{0, 0.5}, {2147483646, 0.5}});
  const std::vector<SweepRow> rows = sweep(builder.build(), std::vector{0.5});
  EXPECT_EQ(rows[0].edges, 2);
  EXPECT_EQ(rows[0].nodes, 3);
}

TEST_P(EveryDtype, SummaryIsWhatTheTableSays) {
  const EdgeList graph = random_graph(3, GetParam());
  for (std::size_t n = 0; n < graph.slices.size(); ++n) {
    const Slice& slice = graph.slices[n];
    const std::vector<Edge> table = table_of(graph, slice);
    const Summary s = summarise(graph, n);
    double weight = 0, distance = 0, self = 0, previous = 0, first = 0, low = kInfinity, high = 0;
    for (const Edge& e : table) {
      weight += e.weight;
      distance += e.weight * static_cast<double>(e.query - e.key);
      self += e.query == e.key ? e.weight : 0;
      previous += e.query == e.key + 1 ? e.weight : 0;
      first += e.key == 0 ? e.weight : 0;
      low = std::min(low, e.weight);
      high = std::max(high, e.weight);
    }
    std::int64_t empty = 0, without_edges = 0, most = 0;
    double kept = 0, kept_min = kInfinity, entropy = 0;
    for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
      const auto row = static_cast<std::size_t>(slice.first_row + r);
      const auto count = std::count_if(table.begin(), table.end(),
                                       [&](const Edge& e) { return e.query == slice.info.query_begin + r; });
      most = std::max<std::int64_t>(most, count);
      if (graph.rows.max_key[row] < 0) {
        ++empty;
        continue;
      }
      without_edges += count == 0 ? 1 : 0;
      kept += graph.rows.kept_mass[row];
      kept_min = std::min(kept_min, graph.rows.kept_mass[row]);
      entropy += graph.rows.entropy[row];
    }
    const auto with_keys = static_cast<double>(slice.info.query_count - empty);
    ASSERT_GT(with_keys, 0);
    EXPECT_EQ(s.rows, slice.info.query_count);
    EXPECT_EQ(s.edges, static_cast<std::int64_t>(table.size()));
    EXPECT_EQ(s.empty_rows, empty);
    EXPECT_EQ(s.rows_without_edges, without_edges);
    EXPECT_EQ(s.max_row_edges, most);
    EXPECT_DOUBLE_EQ(s.mean_row_edges, static_cast<double>(table.size()) / static_cast<double>(slice.info.query_count));
    EXPECT_NEAR(s.kept_mass_mean, kept / with_keys, 1e-12);
    EXPECT_EQ(s.kept_mass_min, kept_min);
    EXPECT_EQ(s.weight_min, low);
    EXPECT_EQ(s.weight_max, high);
    EXPECT_NEAR(s.entropy_mean, entropy / with_keys, 1e-12);
    EXPECT_NEAR(s.mean_distance, distance / weight, 1e-9);
    EXPECT_NEAR(s.self_share, self / weight, 1e-12);
    EXPECT_NEAR(s.previous_share, previous / weight, 1e-12);
    EXPECT_NEAR(s.first_share, first / weight, 1e-12);
  }
}

TEST(QueryOffset, IsAFactOfTheGraph) {
  EXPECT_EQ(query_offset({}), 0);
  const auto of = [](const char* text) { return query_offset({{{"query_offset", text}}, {}}); };
  EXPECT_EQ(of("4"), 4);
  EXPECT_EQ(of("-4"), -4);
  EXPECT_EQ(of("1152921504606846976"), std::int64_t{1} << 60);
  for (const char* text : {"", "x", "4x", " 4", "4.0", "1152921504606846977", "-9223372036854775808", "1e3"})
    EXPECT_EQ(of(text), 0) << text;
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(position_of(kMost - 1, 1), kMost);
  EXPECT_EQ(position_of(kMost, 1), kMost);
  EXPECT_EQ(position_of(0, -3), -3);
}

// Two queries that are the last of six positions, causal: query i stands at i + 4.
TEST(QueryOffset, PlacesTheQueriesOfSweepsAndSummaries) {
  GraphBuilder builder(DType::kF64);
  builder.slice({0, 0, 0}, 0, 6).row({{0, 0.25}, {3, 0.25}, {4, 0.5}}).row({{0, 0.125}, {1, 0.125}, {5, 0.75}});
  const EdgeList graph = builder.build({{{"query_offset", "4"}}, {}});
  EXPECT_EQ(sweep(graph, std::vector{0.125})[0].nodes, 5) << "0, 1, 3, 4, 5";
  EXPECT_EQ(sweep(graph, std::vector{0.5})[0].nodes, 2) << "4 and 5, each on itself";
  const Summary s = summarise(graph, std::nullopt);
  EXPECT_EQ(s.self_share, (0.5 + 0.75) / 2);
  EXPECT_EQ(s.previous_share, 0.25 / 2);
  EXPECT_EQ(s.first_share, (0.25 + 0.125) / 2);
  EXPECT_EQ(s.mean_distance, (0.25 * 4 + 0.25 * 1 + 0.125 * 5 + 0.125 * 4) / 2);
  EXPECT_EQ(query_offset(part_of(graph, {.threshold = 0.5}).metadata), 4);
  // Before the first key, where no key is.
  const EdgeList before = builder.build({{{"query_offset", "-2"}}, {}});
  EXPECT_EQ(sweep(before, std::vector{0.125})[0].nodes, 7) << "-2, -1, 0, 1, 3, 4, 5";
  EXPECT_EQ(summarise(before, 0).self_share, 0);
}

TEST(Summary, OfTheWholeAddsUpItsSlices) {
  const EdgeList graph = random_graph(4);
  std::int64_t rows = 0, edges = 0, empty = 0;
  double low = kInfinity;
  for (std::size_t n = 0; n < graph.slices.size(); ++n) {
    const Summary one = summarise(graph, n);
    rows += one.rows;
    edges += one.edges;
    empty += one.empty_rows;
    low = std::min(low, one.weight_min);
  }
  const Summary all = summarise(graph, std::nullopt);
  EXPECT_EQ(all.rows, rows);
  EXPECT_EQ(all.edges, edges);
  EXPECT_EQ(all.empty_rows, empty);
  EXPECT_EQ(all.weight_min, low);
}

TEST(Summary, OfNothing) {
  GraphBuilder builder;
  builder.slice({0, 0, 0}, 0, 0).row({}, RowStats{});
  for (const EdgeList& graph : {EdgeList{}, builder.build()}) {
    const Summary s = summarise(graph, std::nullopt);
    EXPECT_EQ(s.edges, 0);
    EXPECT_EQ(s.empty_rows, s.rows);
    EXPECT_EQ(s.kept_mass_mean, 0);
    EXPECT_EQ(s.kept_mass_min, 0);
    EXPECT_TRUE(std::isnan(s.weight_min) && std::isnan(s.weight_max));
    EXPECT_TRUE(std::isnan(s.entropy_mean) && std::isnan(s.mean_distance));
    EXPECT_EQ(s.self_share, 0);
  }
}

TEST(Summary, UnknownStatisticsAreMadeFromTheEdges) {
  RowStats unknown;
  unknown.logsumexp = unknown.maximum = unknown.kept_mass = kNaN;
  GraphBuilder builder;
  builder.slice({0, 0, 0}, 0, 4).row({{0, 0.5}, {1, 0.25}}, unknown).row({}, unknown);
  const EdgeList graph = builder.build();
  const Summary s = summarise(graph, std::nullopt);
  EXPECT_EQ(s.empty_rows, 0) << "nobody knows that the second row has no keys";
  EXPECT_EQ(s.rows_without_edges, 1);
  EXPECT_DOUBLE_EQ(s.kept_mass_mean, 0.375);
  EXPECT_EQ(s.kept_mass_min, 0);
  EXPECT_TRUE(std::isnan(s.entropy_mean));
  EXPECT_DOUBLE_EQ(sweep(graph, std::vector{0.3})[0].kept_mass, 0.25);
}

}  // namespace
}  // namespace ag
