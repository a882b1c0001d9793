// SPDX-License-Identifier: Apache-2.0
#include "graph/budget_sink.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "graph/operations.hpp"
#include "graphs.hpp"

namespace ag {
namespace {

EdgeList kept(const EdgeList& graph, std::uint64_t of_graph, std::uint64_t of_slice) {
  CollectSink collect;
  BudgetSink budget(of_graph, of_slice, collect);
  replay(graph, budget);
  EXPECT_EQ(budget.edge_count(), collect.graph().edge_count());
  return collect.take();
}

using Place = std::tuple<std::size_t, std::int64_t, std::int32_t>;  // slice, query, key

std::vector<std::pair<double, Place>> edges_of(const EdgeList& graph) {
  std::vector<std::pair<double, Place>> edges;
  for (std::size_t s = 0; s < graph.slices.size(); ++s)
    for (const Edge& e : table_of(graph, graph.slices[s])) edges.emplace_back(e.weight, Place(s, e.query, e.key));
  return edges;
}

// The definition: sorted by weight, then by place; the first so many of every slice, then of all.
std::vector<std::pair<double, Place>> heaviest(const EdgeList& graph, std::uint64_t of_graph, std::uint64_t of_slice) {
  auto edges = edges_of(graph);
  std::sort(edges.begin(), edges.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  std::map<std::size_t, std::uint64_t> taken;
  std::vector<std::pair<double, Place>> best;
  for (const auto& edge : edges) {
    if (of_slice > 0 && taken[std::get<0>(edge.second)]++ >= of_slice) continue;
    if (of_graph > 0 && best.size() >= of_graph) break;
    best.push_back(edge);
  }
  std::sort(best.begin(), best.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return best;
}

// Weights of few values, so that most choices are between equals.
EdgeList many_ties(std::int64_t slices, std::int64_t rows, std::int32_t keys) {
  std::mt19937 random(5);
  GraphBuilder builder;
  for (std::int64_t s = 0; s < slices; ++s) {
    builder.slice({0, s / 2, s % 2}, 3, keys);
    for (std::int64_t r = 0; r < rows; ++r) {
      std::vector<KeyWeight> row;
      for (std::int32_t key = 0; key < keys; ++key)
        if (random() % 3 != 0) row.push_back({key, 0.125 * static_cast<double>(1 + random() % 5)});
      builder.row(row);
    }
  }
  return builder.build();
}

TEST(Budget, TheHeaviestEdgesAreKeptAndEqualOnesInOrder) {
  const EdgeList graph = many_ties(5, 12, 9);
  const auto all = static_cast<std::uint64_t>(graph.edge_count());
  for (const std::uint64_t of_graph : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{50}, all - 1, all, all + 1}) {
    for (const std::uint64_t of_slice : {0U, 1U, 7U, 40U, 1000U}) {
      SCOPED_TRACE(testing::Message() << of_graph << " of the graph, " << of_slice << " of a slice");
      if (of_graph == 0 && of_slice == 0) continue;
      EXPECT_EQ(edges_of(kept(graph, of_graph, of_slice)), heaviest(graph, of_graph, of_slice));
    }
  }
}

// More than is held at once, so that edges are dropped on arrival.
TEST(Budget, EdgesDroppedOnArrivalAreNoneOfTheHeaviest) {
  const EdgeList graph = many_ties(3, 900, 100);
  ASSERT_GT(graph.edge_count(), 150'000);
  for (const auto& [of_graph, of_slice] : {std::pair{300U, 0U},
                                           {70'000U, 0U},
                                           {0U, 500U},
                                           {40'000U, 20'000U},
                                           {100'000U, 200U},
                                           {2'000U, 1'000U},
                                           {90'000U, 50'000U}}) {
    SCOPED_TRACE(testing::Message() << of_graph << " of the graph, " << of_slice << " of a slice");
    EXPECT_EQ(edges_of(kept(graph, of_graph, of_slice)), heaviest(graph, of_graph, of_slice));
  }
}

TEST(Budget, RowsKeepTheirFiguresButTheMassThatIsGone) {
  EdgeList graph = random_graph(7, DType::kF64);
  graph.report.kept_mass_sum = 0;
  for (const double mass : graph.rows.kept_mass) graph.report.kept_mass_sum += mass;
  const EdgeList few = kept(graph, 5, 0);
  ASSERT_EQ(few.edge_count(), 5);
  EXPECT_EQ(few.rows.logsumexp, graph.rows.logsumexp);
  EXPECT_EQ(few.rows.max_key, graph.rows.max_key);
  double mass = 0, weights = 0;
  for (const double row : few.rows.kept_mass) mass += row;
  for (std::int64_t e = 0; e < few.edge_count(); ++e) weights += few.weight(e);
  EXPECT_NEAR(mass, weights, 1e-12);
  EXPECT_NEAR(few.report.kept_mass_sum, weights, 1e-9);
  EXPECT_EQ(few.metadata.facts.at("budget"), "5");
  EXPECT_EQ(edges_of(kept(graph, 0, 1'000'000)), edges_of(graph));
}

}  // namespace
}  // namespace ag
