// SPDX-License-Identifier: Apache-2.0
// Two graphs compared, and parts of one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "core/error.hpp"
#include "graphs.hpp"

namespace ag {
namespace {

using EdgeKey = std::tuple<SliceId, std::int64_t, std::int64_t>;

std::map<EdgeKey, double> by_ends(const EdgeList& graph) {
  std::map<EdgeKey, double> out;
  for (const Edge& e : table_of(graph)) out[{e.slice, e.query, e.key}] = e.weight;
  return out;
}

Metadata made_with(const char* threshold) { return {{{"threshold", threshold}}, {}}; }

TEST(Diff, OfAGraphWithItselfIsNothing) {
  const EdgeList graph = random_graph(5);
  const Difference d = diff(graph, graph, 0);
  EXPECT_EQ(d.edges_a, graph.edge_count());
  EXPECT_EQ(d.common, graph.edge_count());
  EXPECT_EQ(d.only_a + d.only_b + d.inside_band + d.slices_only_a + d.slices_only_b, 0);
  EXPECT_EQ(d.max_weight_difference, 0);
  EXPECT_FALSE(d.first);
}

TEST(Diff, CountsWhatIsInOneOnly) {
  const EdgeList a = random_graph(6), b = random_graph(7);
  const auto in_a = by_ends(a), in_b = by_ends(b);
  Difference expected;
  std::map<EdgeKey, bool> differing;
  for (const auto& [ends, weight] : in_a) {
    const auto other = in_b.find(ends);
    if (other == in_b.end()) {
      expected.only_a += 1;
      differing[ends] = true;
    } else {
      expected.common += 1;
      const double relative = std::fabs(weight - other->second) / std::max(weight, other->second);
      expected.max_weight_difference = std::max(expected.max_weight_difference, relative);
    }
  }
  for (const auto& [ends, weight] : in_b) {
    if (in_a.contains(ends)) continue;
    expected.only_b += 1;
    differing[ends] = false;
  }
  const Difference d = diff(a, b, 0.5);
  EXPECT_EQ(d.only_a, expected.only_a);
  EXPECT_EQ(d.only_b, expected.only_b);
  EXPECT_EQ(d.common, expected.common);
  EXPECT_EQ(d.inside_band, 0) << "no threshold is known: every such edge differs";
  EXPECT_DOUBLE_EQ(d.max_weight_difference, expected.max_weight_difference);
  ASSERT_TRUE(d.first);
  EXPECT_EQ((EdgeKey{d.first->slice, d.first->query, d.first->key}), differing.begin()->first);
  EXPECT_EQ(d.first_in_a, differing.begin()->second);
}

TEST(Diff, ABandAroundTheLargerThresholdForgives) {
  GraphBuilder one, other;
  one.slice({0, 0, 0}, 0, 8).row({{0, 0.1000005}, {1, 0.11}, {2, 0.3}});
  other.slice({0, 0, 0}, 0, 8).row({{2, 0.3}, {3, 0.0999995}, {4, 0.05}});
  const EdgeList a = one.build(made_with("0.05")), b = other.build(made_with("0.1"));
  const Difference d = diff(a, b, 1e-5);
  EXPECT_EQ(d.inside_band, 2);
  EXPECT_EQ(d.only_a, 1);
  EXPECT_EQ(d.only_b, 1);
  ASSERT_TRUE(d.first);
  EXPECT_EQ(d.first->key, 1);
  EXPECT_TRUE(d.first_in_a);
  EXPECT_EQ(diff(b, a, 1e-5).inside_band, 2);
  EXPECT_FALSE(diff(b, a, 1e-5).first_in_a);
  EXPECT_EQ(diff(a, b, 1e-7).inside_band, 0);
}

TEST(Diff, AThresholdThatIsNoNumberForgivesNothing) {
  GraphBuilder one;
  one.slice({0, 0, 0}, 0, 8).row({{0, 0.1}});
  for (const char* text : {"", "x", "nan", "-1", "inf", "0.1 ", "0"}) {
    EXPECT_EQ(diff(one.build(made_with(text)), EdgeList{}, 0.5).only_a, 1) << "'" << text << "'";
  }
}

TEST(Diff, SlicesOfOneGraphOnlyAreCountedWithTheirEdges) {
  GraphBuilder one, other;
  one.slice({0, 0, 0}, 0, 4).row({{0, 0.5}}).slice({0, 0, 2}, 0, 4).row({{1, 0.5}, {2, 0.5}});
  other.slice({0, 0, 1}, 0, 4).row({{0, 0.5}}).slice({0, 0, 0}, 0, 4).row({{0, 0.5}});
  const Difference d = diff(one.build(), other.build(), 0);
  EXPECT_EQ(d.slices_only_a, 1);
  EXPECT_EQ(d.slices_only_b, 1);
  EXPECT_EQ(d.only_a, 2);
  EXPECT_EQ(d.only_b, 1);
  EXPECT_EQ(d.common, 1);
  ASSERT_TRUE(d.first);
  EXPECT_EQ(d.first->slice, (SliceId{0, 0, 1}));
  EXPECT_FALSE(d.first_in_a);
}

TEST(Diff, AHeadMadeInQueryRangesEqualsOneMadeWhole) {
  GraphBuilder whole, ranges;
  whole.slice({0, 0, 0}, 2, 8);
  for (std::int32_t r = 0; r < 6; ++r) whole.row({{r, 0.5}, {r + 1, 0.25}});
  ranges.slice({0, 0, 0}, 5, 8);
  for (std::int32_t r = 3; r < 6; ++r) ranges.row({{r, 0.5}, {r + 1, 0.25}});
  ranges.slice({0, 0, 0}, 2, 8);
  for (std::int32_t r = 0; r < 3; ++r) ranges.row({{r, 0.5}, {r + 1, 0.25}});
  const Difference d = diff(whole.build(), ranges.build(), 0);
  EXPECT_EQ(d.common, 12);
  EXPECT_EQ(d.only_a + d.only_b + d.slices_only_a + d.slices_only_b, 0);
}

TEST(Diff, WeightsOfDifferentTypesCompareInDouble) {
  GraphBuilder single(DType::kF32), twice(DType::kF64);
  single.slice({0, 0, 0}, 0, 2).row({{0, 0.1}, {1, 0.0}});
  twice.slice({0, 0, 0}, 0, 2).row({{0, 0.1}, {1, 0.0}});
  const Difference d = diff(single.build(), twice.build(), 0);
  EXPECT_EQ(d.common, 2);
  EXPECT_NEAR(d.max_weight_difference, 1.5e-8, 1e-8);
  EXPECT_GT(d.max_weight_difference, 0);
}

class EveryPart : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Graph, EveryPart, testing::Values(DType::kF32, DType::kF64),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST_P(EveryPart, IsTheTableFiltered) {
  const EdgeList graph = random_graph(8, GetParam());
  for (const Part& part :
       {Part{}, Part{.threshold = 0.25}, Part{.top_k = 2}, Part{.threshold = 0.5, .top_k = 3}, Part{.layers = {4}},
        Part{.threshold = 0.125, .top_k = 1, .layers = {3, 4}, .heads = {2, 0}}}) {
    std::map<EdgeKey, double> expected;
    for (const Edge& e : table_of(graph)) {
      const auto in = [](const std::vector<std::int64_t>& wanted, std::int64_t label) {
        return wanted.empty() || std::find(wanted.begin(), wanted.end(), label) != wanted.end();
      };
      if (e.weight < part.threshold || !in(part.layers, e.slice.layer) || !in(part.heads, e.slice.head)) continue;
      std::int64_t before = 0;  // edges of the row that come first in (weight descending, key ascending)
      for (const Edge& f : table_of(graph)) {
        if (f.slice == e.slice && f.query == e.query)
          before += f.weight > e.weight || (f.weight == e.weight && f.key < e.key) ? 1 : 0;
      }
      if (part.top_k == 0 || before < part.top_k) expected[{e.slice, e.query, e.key}] = e.weight;
    }
    const EdgeList out = part_of(graph, part);
    EXPECT_EQ(by_ends(out), expected);
    EXPECT_EQ(out.edge_count(), static_cast<std::int64_t>(expected.size()));
    EXPECT_EQ(out.weight_dtype, GetParam());
    double kept = 0;
    std::int64_t rows = 0, with_keys = 0;
    for (const Slice& slice : out.slices) {
      std::map<std::int64_t, double> mass;
      for (const Edge& e : table_of(out, slice)) mass[e.query] += e.weight;
      for (std::int64_t r = 0; r < slice.info.query_count; ++r, ++rows) {
        const auto row = static_cast<std::size_t>(slice.first_row + r);
        EXPECT_NEAR(out.rows.kept_mass[row], mass[slice.info.query_begin + r], 1e-12);
        kept += out.rows.kept_mass[row];
        with_keys += out.rows.max_key[row] >= 0 ? 1 : 0;
      }
      EXPECT_EQ(slice.edge_count, static_cast<std::int64_t>(table_of(out, slice).size()));
    }
    EXPECT_EQ(out.rows.size(), static_cast<std::size_t>(rows));
    EXPECT_EQ(out.report.rows_with_keys, with_keys);
    EXPECT_EQ(out.report.empty_rows, rows - with_keys);
    EXPECT_NEAR(out.report.kept_mass_sum, kept, 1e-9);
  }
}

TEST(Part, SaysHowItWasMade) {
  EdgeList graph = random_graph(9);
  EXPECT_EQ(part_of(graph, {.threshold = 0.1}).metadata.facts.at("threshold"), "0.1");
  graph.metadata.facts = {{"threshold", "0.05"}, {"top_k", "7"}, {"model", "m"}};
  graph.metadata.tokens = Labels({"a", "b"});
  const EdgeList stricter = part_of(graph, {.threshold = 0.25, .top_k = 3});
  EXPECT_EQ(stricter.metadata.facts,
            (std::map<std::string, std::string>{{"threshold", "0.25"}, {"top_k", "3"}, {"model", "m"}}));
  EXPECT_EQ(stricter.metadata.tokens, graph.metadata.tokens);
  const EdgeList same = part_of(graph, {.threshold = 0.01, .top_k = 9});
  EXPECT_EQ(same.metadata.facts, graph.metadata.facts);
}

TEST(Part, OfWhatIsNotThereIsNotFound) {
  const EdgeList graph = random_graph(10);
  for (const Part& part : {Part{.layers = {3, 9}}, Part{.heads = {3}}}) {
    try {
      part_of(graph, part);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), Status::kNotFound);
    }
  }
}

TEST_P(EveryPart, HoldsEveryConditionOnPositions) {
  EdgeList graph = random_graph(12, GetParam());
  graph.metadata.facts["query_offset"] = "2";
  const auto listed = [](const std::vector<std::int64_t>& list, std::int64_t n) {
    return list.empty() || std::find(list.begin(), list.end(), n) != list.end();
  };
  for (const Part& part :
       {Part{.layer_heads = {{3, 1}, {4, 2}}}, Part{.query_begin = 3, .query_end = 9},
        Part{.key_begin = 1, .key_end = 99}, Part{.distance_min = 0, .distance_max = 4}, Part{.distance_max = -1},
        Part{.query_positions = {4, 5, 100}}, Part{.key_positions = {0, 7}},
        Part{.threshold = 0.25,
        .layers = {3},
        .query_begin = 4,
        .query_end = 11,
        .key_begin = 2,
        .key_end = 8,
        .distance_min = 1,
        .query_positions = {6, 8, 10},
        .key_positions = {3, 4, 5}}}) {
    std::map<EdgeKey, double> expected;
    for (const Edge& e : table_of(graph)) {
      const std::int64_t distance = e.query + 2 - e.key;
      const bool pair =
          part.layer_heads.empty() || std::find(part.layer_heads.begin(), part.layer_heads.end(),
                                                std::pair(e.slice.layer, e.slice.head)) != part.layer_heads.end();
      if (e.weight >= part.threshold && pair && listed(part.layers, e.slice.layer) &&
          (!part.has_query_range() || (e.query >= part.query_begin && e.query < part.query_end)) &&
          (!part.has_key_range() || (e.key >= part.key_begin && e.key < part.key_end)) &&
          distance >= part.distance_min && distance <= part.distance_max && listed(part.query_positions, e.query + 2) &&
          listed(part.key_positions, e.key))
        expected[{e.slice, e.query, e.key}] = e.weight;
    }
    ASSERT_FALSE(expected.empty());
    const EdgeList out = part_of(graph, part);
    EXPECT_EQ(by_ends(out), expected);
    std::vector<Edge> heaviest = top(out, 7);
    const std::vector<Edge> directly = top_of(graph, part, 7);
    ASSERT_EQ(directly.size(), heaviest.size());
    for (std::size_t n = 0; n < heaviest.size(); ++n) {
      EXPECT_EQ(directly[n].slice, heaviest[n].slice);
      EXPECT_EQ(directly[n].query, heaviest[n].query);
      EXPECT_EQ(directly[n].key, heaviest[n].key);
    }
  }
}

TEST(Part, LeavesRowsOutByTheirRangeOnly) {
  EdgeList graph = random_graph(13);
  for (Slice& slice : graph.slices) slice.sums.received.assign(4, 1.0);
  const EdgeList rows = part_of(graph, Part{.query_begin = 3, .query_end = 7});
  EXPECT_EQ(rows.slices[0].info.query_begin, 3);
  EXPECT_EQ(rows.slices[0].info.query_count, 4);
  EXPECT_TRUE(rows.slices[0].sums.received.empty());
  const EdgeList keys = part_of(graph, Part{.key_begin = 1, .key_end = 99});
  EXPECT_EQ(keys.rows.size(), graph.rows.size());
  EXPECT_EQ(keys.slices[0].sums.received.size(), 4u);
  EXPECT_EQ(keys.metadata.facts.at("part"), "keys 1:99");
  EXPECT_THROW(part_of(graph, Part{.layer_heads = {{3, 7}}}), Error);
}

TEST(Part, KeepsTheSumsOfItsSlices) {
  CollectSink sink;
  sink.begin_slice({{0, 0, 1}, 0, 0, 3}, DType::kF32);
  sink.end_slice({{1, 2, 3}, {4, 5}, -1, {}});
  const EdgeList out = part_of(sink.take(), {.threshold = 0.5});
  ASSERT_EQ(out.slices.size(), 1u);
  EXPECT_EQ(out.slices[0].sums.received, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(out.slices[0].sums.distances, (std::vector<double>{4, 5}));
  EXPECT_EQ(out.slices[0].sums.distance_begin, -1);
}

}  // namespace
}  // namespace ag
