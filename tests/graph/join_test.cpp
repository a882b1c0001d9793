// SPDX-License-Identifier: Apache-2.0
// Graphs joined: rows, reports and sums.
#include "graph/join.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.hpp"
#include "graphs.hpp"

namespace ag {
namespace {

using testing::ElementsAre;

EdgeList decided(GraphBuilder& builder, double eps, std::int64_t borderline, const char* backend) {
  EdgeList graph = builder.build({{{"threshold", "0.1"}}, {}});
  graph.report.eps = eps;
  graph.report.borderline = borderline;
  graph.report.backend = backend;
  return graph;
}

TEST(Join, PutsQueryRangesOneAfterTheOther) {
  GraphBuilder late, early;
  late.slice({0, 0, 0}, 2, 4).row({{0, 0.5}, {3, 0.25}});
  early.slice({0, 0, 0}, 0, 2).row({{0, 1}}).row({{0, 0.75}, {1, 0.25}});
  early.slice({0, 0, 1}, 0, 2).row({{0, 1}});
  const EdgeList a = decided(late, 2e-5, 3, "cpu"), b = decided(early, 1e-5, 4, "reference");
  const JoinPart parts[] = {{&a}, {&b}};
  const EdgeList whole = join(parts);
  ASSERT_EQ(whole.slices.size(), 2u);
  EXPECT_EQ(whole.slices[0].info, (SliceInfo{{0, 0, 0}, 0, 3, 4}));
  EXPECT_EQ(whole.slices[1].info, (SliceInfo{{0, 0, 1}, 0, 1, 2}));
  EXPECT_THAT(whole.keys, ElementsAre(0, 0, 1, 0, 3, 0));
  EXPECT_THAT(whole.weights_f32, ElementsAre(1, 0.75, 0.25, 0.5, 0.25, 1));
  EXPECT_THAT(whole.offsets, ElementsAre(0, 1, 3, 5, 0, 1));
  EXPECT_EQ(whole.report.eps, 2e-5);
  EXPECT_EQ(whole.report.borderline, 7);
  EXPECT_EQ(whole.report.backend, "cpu, reference");
  EXPECT_EQ(whole.report.rows_with_keys, 4);
}

TEST(Join, MovesGraphsToTheirPlaces) {
  GraphBuilder first, second;
  first.slice({0, 0, 0}, 0, 2).row({{0, 1}}).row({{1, 1}});
  second.slice({0, 0, 0}, 0, 2).row({{0, 0.5}, {1, 0.5}});
  EdgeList a = first.build(), b = second.build();
  a.slices[0].sums = {{1, 1}, {2}, 0, {0.5, 0, 1}};
  b.slices[0].sums = {{0.5, 0.5}, {0.25, 0.5, 0.25}, -1, {0.25, 1, NAN}};
  const JoinPart parts[] = {{&a}, {&b, 2, 1}};
  const EdgeList whole = join(parts);
  EXPECT_EQ(whole.slices[0].info, (SliceInfo{{0, 0, 0}, 0, 3, 3}));
  EXPECT_THAT(whole.keys, ElementsAre(0, 1, 1, 2));
  EXPECT_THAT(whole.rows.max_key, ElementsAre(0, 0, 1));
  const SliceSums& sums = whole.slices[0].sums;
  EXPECT_THAT(sums.received, ElementsAre(1, 1.5, 0.5));
  EXPECT_EQ(sums.distance_begin, -1);
  EXPECT_THAT(sums.distances, ElementsAre(0.25, 2.5, 0.25));
  EXPECT_THAT(sums.tokens, ElementsAre(0.75, 1, testing::IsNan()));
}

TEST(Join, OfAPartWithoutSumsHasNone) {
  GraphBuilder first, second;
  first.slice({0, 0, 0}, 0, 1).row({{0, 1}});
  second.slice({0, 0, 0}, 1, 1).row({{0, 1}});
  EdgeList a = first.build();
  const EdgeList b = second.build();
  a.slices[0].sums = {{1}, {1}, 0, {0, 0, 0}};
  const JoinPart parts[] = {{&a}, {&b}};
  const EdgeList whole = join(parts);
  EXPECT_TRUE(whole.slices[0].sums.received.empty());
  EXPECT_TRUE(whole.slices[0].sums.distances.empty());
  EXPECT_TRUE(whole.slices[0].sums.tokens.empty());
}

TEST(Join, DoesNotKnowWhatAPartDoesNotKnow) {
  GraphBuilder first, second;
  first.slice({0, 0, 0}, 0, 1).row({{0, 1}});
  second.slice({0, 0, 1}, 0, 1).row({{0, 1}});
  const EdgeList a = decided(first, 1e-5, 2, "cpu");
  EdgeList b = decided(second, 0, 0, "");
  b.report.forget_decisions();
  for (const auto& parts : {std::array{JoinPart{&a}, JoinPart{&b}}, std::array{JoinPart{&b}, JoinPart{&a}}}) {
    const RunReport report = join(parts).report;
    EXPECT_TRUE(std::isnan(report.eps));
    EXPECT_EQ(report.borderline, -1);
    EXPECT_EQ(report.backend, "cpu");
  }
}

TEST(Join, RefusesGapsAndOverlaps) {
  GraphBuilder first, second;
  first.slice({0, 0, 0}, 0, 2).row({}).row({});
  second.slice({0, 0, 0}, 1, 2).row({});
  const EdgeList a = first.build(), b = second.build();
  const auto message = [&](std::int64_t begin) {
    const JoinPart parts[] = {{&a}, {&b, begin}};
    try {
      join(parts);
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), Status::kShape);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(0), "(batch, layer, head) = (0, 0, 0): query ranges overlap at query 1");
  EXPECT_EQ(message(2), "(batch, layer, head) = (0, 0, 0): query ranges leave a gap at query 2");
  EXPECT_EQ(message(1), "");
}

}  // namespace
}  // namespace ag
