// SPDX-License-Identifier: Apache-2.0
// Whether two graphs are the same answer: the same edges but for pairs inside the returned band of a cut, the same
// order, weights and statistics within tolerance.
#pragma once

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/edge_list.hpp"
#include "oracle.hpp"

namespace ag::test {

struct Tolerance {
  double weight = 2e-5;  // relative; holds for scores up to 50
  double score = 2e-5;   // absolute: logsumexp and maximum
};

// Below this a float is subnormal and loses precision.
inline constexpr double kSmallestWeight = 1.2e-38;

inline bool close(double actual, double expected, double relative, double absolute) {
  return actual == expected || std::abs(actual - expected) <= relative * std::abs(expected) + absolute;
}

// Whether rounding every ln(weight) by up to `band` may decide the pair either way.
inline bool stands_at_a_cut(const Selection& selection, const ExactRow& row, std::int32_t key, double band) {
  const auto j = static_cast<std::size_t>(key);
  const auto delta = static_cast<long double>(band);
  if (!row.allowed[j]) return false;
  if (selection.threshold > 0) {
    const auto threshold = static_cast<long double>(selection.threshold);
    if (std::abs(std::log(row.weight[j] / threshold)) <= delta) return true;
  }
  // top_k and mass keep the first keys in order of weight; the number kept is certain to lie in [fewest, most]. A key
  // is in doubt between the two, and when it ties with the first one beyond.
  const std::vector<std::size_t> order = by_weight(row);
  const auto place = static_cast<std::size_t>(std::find(order.begin(), order.end(), j) - order.begin());
  const auto in_doubt = [&](std::size_t fewest, std::size_t most) {
    const auto ties_with = [&](std::size_t other) {
      return other < order.size() && std::abs(row.score[order[other]] - row.score[j]) <= 2 * delta;
    };
    if (place < fewest) return ties_with(fewest);
    return place < most || (most > 0 && ties_with(most - 1));
  };
  if (selection.top_k > 0) {
    const auto top = static_cast<std::size_t>(selection.top_k);
    if (in_doubt(top, top)) return true;
  }
  if (selection.mass > 0) {
    const auto mass = static_cast<long double>(selection.mass);
    std::size_t fewest = 0, most = 0;
    long double sum = 0;
    for (const std::size_t next : order) {
      fewest += sum < mass * (1 - delta);
      most += sum < mass * (1 + delta);
      sum += row.weight[next];
    }
    if (in_doubt(fewest, most)) return true;
  }
  return false;
}

inline std::string row_name(const SliceInfo& slice, std::int64_t query) {
  return fmt::format("batch {}, head {}, query {}", slice.id.batch, slice.id.head, query);
}

// The same slices, offsets, keys and weights, bit for bit.
inline void expect_identical_edges(const EdgeList& a, const EdgeList& b) {
  ASSERT_EQ(a.slices.size(), b.slices.size());
  for (std::size_t s = 0; s < a.slices.size(); ++s) EXPECT_TRUE(a.slices[s].info == b.slices[s].info) << "slice " << s;
  EXPECT_EQ(a.offsets, b.offsets);
  EXPECT_EQ(a.keys, b.keys);
  EXPECT_EQ(a.weights_f32, b.weights_f32);
  EXPECT_EQ(a.weights_f64, b.weights_f64);
}

inline void expect_well_formed(const EdgeList& graph) {
  std::int64_t row = 0, edge = 0;
  for (const Slice& slice : graph.slices) {
    const auto first = static_cast<std::size_t>(slice.first_offset);
    ASSERT_EQ(slice.first_row, row);
    ASSERT_EQ(slice.first_edge, edge);
    ASSERT_EQ(graph.offsets[first], 0);
    for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
      const std::int64_t begin = graph.offsets[first + static_cast<std::size_t>(r)];
      const std::int64_t end = graph.offsets[first + static_cast<std::size_t>(r) + 1];
      ASSERT_LE(begin, end);
      for (std::int64_t e = edge + begin; e < edge + end; ++e) {
        const std::int32_t key = graph.keys[static_cast<std::size_t>(e)];
        ASSERT_GE(key, 0);
        ASSERT_LT(key, slice.info.key_count);
        if (e > edge + begin) {
          ASSERT_LT(graph.keys[static_cast<std::size_t>(e) - 1], key) << "keys ascend within a row";
        }
      }
    }
    row += slice.info.query_count;
    edge += slice.edge_count;
  }
  EXPECT_EQ(static_cast<std::int64_t>(graph.rows.size()), row);
  EXPECT_EQ(graph.edge_count(), edge);
}

inline void expect_same_sums(const std::vector<double>& actual, const std::vector<double>& expected, double relative,
                             const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t n = 0; n < actual.size(); ++n) {
    EXPECT_TRUE(close(actual[n], expected[n], relative, 1e-30))
        << what << " " << n << ": " << actual[n] << ", expected " << expected[n];
  }
}

// `actual` answers the problem as `expected` does.
inline void expect_same_graph(const EdgeList& actual, const EdgeList& expected, const Problem& problem,
                              const Tolerance& tolerance = {}) {
  const double band = actual.report.eps + expected.report.eps + 1e-12;
  EXPECT_LT(band, 1e-2) << "a band this wide decides nothing";
  ASSERT_NO_FATAL_FAILURE(expect_well_formed(actual));
  ASSERT_EQ(actual.weight_dtype, expected.weight_dtype);
  ASSERT_EQ(actual.slices.size(), expected.slices.size());
  for (std::size_t s = 0; s < actual.slices.size(); ++s) {
    const Slice& a = actual.slices[s];
    const Slice& e = expected.slices[s];
    ASSERT_TRUE(a.info == e.info) << "slice " << s;
    for (std::int64_t r = 0; r < a.info.query_count; ++r) {
      const std::int64_t query = a.info.query_begin + r;
      SCOPED_TRACE(row_name(a.info, query));
      const auto place = [r](const Slice& slice) { return static_cast<std::size_t>(slice.first_offset + r); };
      std::int64_t na = a.first_edge + actual.offsets[place(a)], ne = e.first_edge + expected.offsets[place(e)];
      const std::int64_t enda = a.first_edge + actual.offsets[place(a) + 1],
                         ende = e.first_edge + expected.offsets[place(e) + 1];
      double doubtful = 0;  // weight of the edges in one graph only
      while (na < enda || ne < ende) {
        const std::int32_t ka = na < enda ? actual.keys[static_cast<std::size_t>(na)] : INT32_MAX;
        const std::int32_t ke = ne < ende ? expected.keys[static_cast<std::size_t>(ne)] : INT32_MAX;
        if (ka == ke) {
          const double wa = actual.weight(na++), we = expected.weight(ne++);
          EXPECT_TRUE(close(wa, we, tolerance.weight, kSmallestWeight))
              << "key " << ka << " weighs " << wa << ", expected " << we;
          continue;
        }
        const std::int32_t key = std::min(ka, ke);
        const ExactRow row = exact_row(problem, a.info.id.batch, a.info.id.head, query);
        EXPECT_TRUE(stands_at_a_cut(problem.selection, row, key, band))
            << "key " << key << " weighs " << static_cast<double>(row.weight[static_cast<std::size_t>(key)])
            << " and is an edge in the " << (ka < ke ? "actual" : "expected") << " graph only; band " << band;
        doubtful += ka < ke ? actual.weight(na++) : expected.weight(ne++);
      }
      const auto ra = static_cast<std::size_t>(a.first_row + r), re = static_cast<std::size_t>(e.first_row + r);
      EXPECT_TRUE(close(actual.rows.logsumexp[ra], expected.rows.logsumexp[re], 1e-7, tolerance.score))
          << "logsumexp " << actual.rows.logsumexp[ra] << ", expected " << expected.rows.logsumexp[re];
      EXPECT_TRUE(close(actual.rows.maximum[ra], expected.rows.maximum[re], 1e-7, tolerance.score))
          << "maximum " << actual.rows.maximum[ra] << ", expected " << expected.rows.maximum[re];
      EXPECT_TRUE(
          close(actual.rows.kept_mass[ra], expected.rows.kept_mass[re], tolerance.weight, 1.01 * doubtful + 1e-30))
          << "kept mass " << actual.rows.kept_mass[ra] << ", expected " << expected.rows.kept_mass[re];
      const std::int32_t max_key = actual.rows.max_key[ra];
      if (max_key != expected.rows.max_key[re]) {
        ASSERT_GE(max_key, 0);
        ASSERT_GE(expected.rows.max_key[re], 0);
        const ExactRow row = exact_row(problem, a.info.id.batch, a.info.id.head, query);
        const long double gap = row.score[static_cast<std::size_t>(expected.rows.max_key[re])] -
                                row.score[static_cast<std::size_t>(max_key)];
        EXPECT_LE(std::abs(gap), 2 * static_cast<long double>(band)) << "heaviest key " << max_key;
      }
      if (problem.stats.entropy) {
        EXPECT_TRUE(
            close(actual.rows.entropy[ra], expected.rows.entropy[re], 5 * tolerance.weight, 5 * tolerance.weight))
            << "entropy " << actual.rows.entropy[ra] << ", expected " << expected.rows.entropy[re];
      } else {
        EXPECT_TRUE(std::isnan(actual.rows.entropy[ra])) << "entropy was not asked for";
      }
    }
    EXPECT_EQ(a.sums.distance_begin, e.sums.distance_begin);
    expect_same_sums(a.sums.received, e.sums.received, tolerance.weight, "received by key");
    expect_same_sums(a.sums.distances, e.sums.distances, tolerance.weight, "mass at distance");
  }
  EXPECT_EQ(actual.report.empty_rows, expected.report.empty_rows);
  EXPECT_EQ(actual.report.rows_with_keys, expected.report.rows_with_keys);
}

}  // namespace ag::test
