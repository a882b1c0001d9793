// SPDX-License-Identifier: Apache-2.0
// Spans: sums over keys, means over queries.
#include "graph/group.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/error.hpp"
#include "graphs.hpp"

namespace ag {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const EdgeList& graph, const Spans& spans) {
  try {
    group(graph, spans);
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::kArgument);
    return error.what();
  }
  return "";
}

// By the definition, over the flat table: positions -> spans.
TEST(Group, SumsOverKeysAndMeansOverQueries) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    EdgeList graph = random_graph(11, dtype);
    graph.metadata.facts["query_offset"] = "1";
    Spans spans;
    spans.begins = {0, 1, 4, 9, 13};
    spans.ends = {1, 4, 9, 13, 17};
    const EdgeList out = group(graph, spans);
    const auto span_of = [&](std::int64_t position) {
      for (std::size_t n = 0; n < spans.begins.size(); ++n)
        if (position >= spans.begins[n] && position < spans.ends[n]) return static_cast<std::int64_t>(n);
      return std::int64_t{-1};
    };
    std::map<std::tuple<SliceId, std::int64_t, std::int64_t>, double> expected;
    std::map<std::pair<SliceId, std::int64_t>, double> queries, kept;
    for (const Slice& slice : graph.slices) {
      for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
        const auto row = static_cast<std::size_t>(slice.first_row + r);
        if (graph.rows.max_key[row] < 0) continue;
        const auto at = std::pair(slice.info.id, span_of(slice.info.query_begin + r + 1));
        queries[at] += 1;
        kept[at] += graph.rows.kept_mass[row];
      }
      for (const Edge& e : table_of(graph, slice))
        expected[{e.slice, span_of(e.query + 1), span_of(e.key)}] += e.weight;
    }
    std::size_t seen = 0;
    for (const Slice& slice : out.slices) {
      EXPECT_EQ(slice.info.key_count, 5);
      for (const Edge& e : table_of(out, slice)) {
        ++seen;
        EXPECT_NEAR(e.weight, (expected[{e.slice, e.query, e.key}] / queries[{e.slice, e.query}]), 1e-12);
      }
      for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
        const auto at = std::pair(slice.info.id, slice.info.query_begin + r);
        EXPECT_NEAR(out.rows.kept_mass[static_cast<std::size_t>(slice.first_row + r)], kept[at] / queries[at], 1e-12);
      }
    }
    EXPECT_EQ(seen, expected.size());
    EXPECT_EQ(out.metadata.facts.at("query_offset"), "0");
  }
}

EdgeList three_tokens() {
  GraphBuilder builder;
  builder.slice({0, 0, 0}, 0, 3).row({{0, 1}}).row({{0, 0.5}, {1, 0.5}}).row({{0, 0.25}, {1, 0.25}, {2, 0.5}});
  return builder.build({{}, Labels({"un", "do", " it"})});
}

TEST(Group, LabelsSpansByTheirTokens) {
  Spans spans;
  spans.begins = {0, 2};
  spans.ends = {2, 3};
  const EdgeList out = group(three_tokens(), spans);
  EXPECT_THAT(out.metadata.tokens.common(), ElementsAre("undo", " it"));
  EXPECT_THAT(out.keys, ElementsAre(0, 0, 1));
  EXPECT_THAT(out.weights_f64, ElementsAre(1, 0.5, 0.5));
  spans.labels = {"word", "other"};
  EXPECT_THAT(group(three_tokens(), spans).metadata.tokens.common(), ElementsAre("word", "other"));
}

TEST(Group, CountsWhatIsDroppedAsNotKept) {
  Spans spans;
  spans.begins = {1};
  spans.ends = {3};
  spans.rest = Spans::Rest::kDrop;
  const EdgeList out = group(three_tokens(), spans);
  EXPECT_THAT(out.weights_f64, ElementsAre(0.625));
  EXPECT_THAT(out.rows.kept_mass, ElementsAre(0.625));
  EXPECT_DOUBLE_EQ(out.report.kept_mass_sum, 0.625);
}

TEST(Group, LetsOthersStandForThemselves) {
  Spans spans;
  spans.begins = {1};
  spans.ends = {3};
  spans.rest = Spans::Rest::kOwn;
  const EdgeList out = group(three_tokens(), spans);
  EXPECT_THAT(out.metadata.tokens.common(), ElementsAre("un", "do it"));
  EXPECT_THAT(out.weights_f64, ElementsAre(1, 0.375, 0.625));
}

TEST(Group, RefusesSpansThatOverlapSkipOrExceed) {
  Spans spans;
  spans.begins = {0, 1};
  spans.ends = {2, 3};
  EXPECT_THAT(refusal(three_tokens(), spans), HasSubstr("span 1 is [1, 3), which overlaps"));
  spans.begins = {0};
  spans.ends = {2};
  EXPECT_THAT(refusal(three_tokens(), spans), HasSubstr("position 2 is in no span"));
  spans.ends = {4};
  EXPECT_THAT(refusal(three_tokens(), spans), HasSubstr("the graph has 3 positions"));
  spans.ends = {0};
  EXPECT_THAT(refusal(three_tokens(), spans), HasSubstr("holds no position"));
}

TEST(Group, OfRowsFarBeyondTheKeysIsALimit) {
  GraphBuilder builder;
  builder.slice({0, 0, 0}, std::int64_t{1} << 50, 3).row({{0, 1}});
  EXPECT_THROW(group(builder.build(), {}), Error);
}

}  // namespace
}  // namespace ag
