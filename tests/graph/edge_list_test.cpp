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

}  // namespace
}  // namespace ag
