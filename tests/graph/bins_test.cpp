// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.hpp"
#include "graph/bins.hpp"
#include "graphs.hpp"

namespace ag {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<double> bin(const EdgeList& graph, std::size_t slice, const Bins& bins) {
  std::vector<double> cells(static_cast<std::size_t>(bins.rows * bins.columns), -1);
  bin_edges(graph, graph.slices[slice], bins, cells);
  return cells;
}

TEST(Bins, ACellHoldsTheEdgesThatFallIntoIt) {
  const EdgeList graph =
      GraphBuilder().slice({}, 0, 4).row({{0, 1}}).row({{0, 0.5}, {1, 0.5}}).row({{3, 0.25}}).row({{0, 0.75}}).build();
  EXPECT_THAT(bin(graph, 0, {.rows = 2, .columns = 2, .value = BinValue::kMax}), ElementsAre(1, 0, 0.75, 0.25));
  EXPECT_THAT(bin(graph, 0, {.rows = 2, .columns = 2, .value = BinValue::kSum}), ElementsAre(2, 0, 0.75, 0.25));
  EXPECT_THAT(bin(graph, 0, {.rows = 2, .columns = 2, .value = BinValue::kMean}), ElementsAre(0.5, 0, 0.1875, 0.0625));
  EXPECT_THAT(bin(graph, 0, {.query_begin = 1, .query_end = 3, .key_begin = 1, .key_end = 4, .rows = 2, .columns = 3}),
              ElementsAre(0.5, 0, 0, 0, 0, 0.25));
}

// Every edge is in exactly one cell, whatever the grid, also one finer than the window.
TEST(Bins, OfAnyGridSumToTheWeightOfTheWindow) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const EdgeList graph = random_graph(7, dtype);
    for (std::size_t i = 0; i < graph.slices.size(); ++i) {
      const SliceInfo& info = graph.slices[i].info;
      for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 5}, {12, 13}, {40, 31}}) {
        Bins bins{.rows = rows, .columns = columns, .value = BinValue::kSum};
        bins.query_begin = info.query_begin + 2;
        bins.query_end = info.query_begin + 11;
        bins.key_begin = 1;
        bins.key_end = info.key_count - 1;
        double want = 0, heaviest = 0;
        for (const Edge& e : table_of(graph, graph.slices[i])) {
          const bool inside = e.query >= bins.query_begin && e.query < bins.query_end && e.key >= bins.key_begin &&
                              e.key < bins.key_end;
          if (inside) want += e.weight;
          if (inside) heaviest = std::max(heaviest, e.weight);
        }
        double sum = 0, most = 0;
        for (const double cell : bin(graph, i, bins)) sum += cell;
        bins.value = BinValue::kMax;
        for (const double cell : bin(graph, i, bins)) most = std::max(most, cell);
        EXPECT_NEAR(sum, want, 1e-9);
        EXPECT_EQ(most, heaviest);
      }
    }
  }
}

TEST(Bins, SayWhatDoesNotFit) {
  const EdgeList graph = GraphBuilder().slice({}, 2, 4).row({{0, 1}}).build();
  const auto message = [&](const Bins& bins) -> std::string {
    try {
      checked_bins(graph.slices[0], bins);
    } catch (const Error& e) {
      EXPECT_EQ(e.status(), Status::kArgument);
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(message({.query_begin = 0, .query_end = 3, .rows = 1, .columns = 1}),
              HasSubstr("0:3; the slice has 2:3"));
  EXPECT_THAT(message({.key_begin = 3, .key_end = 5, .rows = 1, .columns = 1}), HasSubstr("keys is 3:5"));
  EXPECT_THAT(message({.rows = 0, .columns = 1}), HasSubstr("0 x 1 cells"));
  EXPECT_THAT(message({.rows = 1 << 20, .columns = 1 << 20}), HasSubstr("2^28"));
  EXPECT_EQ(message({.rows = 1, .columns = 1}), "");
}

}  // namespace
}  // namespace ag
