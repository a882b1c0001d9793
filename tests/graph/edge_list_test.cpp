// SPDX-License-Identifier: Apache-2.0
#include "graph/edge_list.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace ag {
namespace {

constexpr std::int64_t kRowEdges = (std::int64_t{1} << 21) + 5;

// A row of many edges, as often as asked for.
struct LongRow {
  std::vector<std::int32_t> keys = std::vector<std::int32_t>(kRowEdges);
  std::vector<float> weights = std::vector<float>(kRowEdges);
  const std::int64_t offsets[2] = {0, kRowEdges};
  const RowColumns stats{RowStats{}};

  LongRow() {
    std::iota(keys.begin(), keys.end(), 0);
    for (std::size_t n = 0; n < weights.size(); ++n) weights[n] = static_cast<float>(n % 977);
  }
  void add_to(CollectSink& sink, std::int64_t query) const {
    sink.rows({query, 1, offsets, keys.data(), weights.data(), DType::kF32, stats.view()});
  }
};

TEST(CollectSink, LooksAtTheCallersWishesWhileALargeArrayMoves) {
  const LongRow row;
  CollectSink sink;
  int polls = 0;
  sink.set_poll([&] { ++polls; });
  sink.begin_slice({{}, 0, 3, kRowEdges}, DType::kF32);
  for (std::int64_t query = 0; query < 3; ++query) row.add_to(sink, query);
  sink.end_slice({});
  // From one row's room to two's, and to four's: one, then two rows' keys and weights move, in two pieces or more each.
  EXPECT_GE(polls, 8);
  const EdgeList graph = sink.take();
  ASSERT_EQ(graph.edge_count(), 3 * kRowEdges);
  for (std::int64_t query = 0; query < 3; ++query) {
    const auto from = static_cast<std::ptrdiff_t>(query * kRowEdges);
    EXPECT_TRUE(std::equal(row.keys.begin(), row.keys.end(), graph.keys.begin() + from));
    EXPECT_TRUE(std::equal(row.weights.begin(), row.weights.end(), graph.weights_f32.begin() + from));
  }
}

TEST(CollectSink, HasRoomForWhatItExpects) {
  const RowColumns stats{{1, 2, 0.5, 0.25, 1}, {3, 4, 0.75, 0.125, 0}};
  const std::int64_t offsets[] = {0, 1, 1};
  const std::int32_t keys[] = {1};
  const float weights[] = {0.5f};
  CollectSink sink;
  const auto add_slice = [&](std::int64_t head) {
    sink.begin_slice({{0, 0, head}, 0, 2, 2}, DType::kF32);
    sink.rows({0, 2, offsets, keys, weights, DType::kF32, stats.view()});
    sink.end_slice({});
  };
  add_slice(0);
  sink.expect(100, 2);
  const double* const before = sink.graph().rows.entropy.data();
  const std::int64_t* const offsets_before = sink.graph().offsets.data();
  for (std::int64_t head = 1; head <= 100; ++head) add_slice(head);
  EXPECT_EQ(sink.graph().rows.entropy.data(), before);
  EXPECT_EQ(sink.graph().offsets.data(), offsets_before);
  sink.expect(std::int64_t{1} << 40, std::int64_t{1} << 40);
  sink.expect(std::int64_t{1} << 60, 0);
  sink.expect(0, 5);
  const EdgeList graph = sink.take();
  ASSERT_EQ(graph.rows.size(), 202u);
  EXPECT_EQ(graph.rows.kept_mass[201], 0.75);
  EXPECT_EQ(graph.rows.max_key[0], 1);
  EXPECT_EQ(graph.offsets[3 * 100 + 2], 1);
}

}  // namespace
}  // namespace ag
