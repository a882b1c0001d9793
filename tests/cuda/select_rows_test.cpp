// SPDX-License-Identifier: Apache-2.0
// Top-k and mass on the device against ag::select_row, the text of the host backends.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../../cuda/stages/stages.hpp"
#include "core/select.hpp"
#include "support.hpp"
#include "support/random.hpp"

namespace ag::test {
namespace {

// Rows of candidates as finish_rows leaves them: some are no edges, in any order of keys.
struct Rows {
  std::int64_t keys = 0;
  std::vector<std::vector<RowEdge>> lists;  // key ~k: no edge

  std::vector<RowEdge> edges(std::size_t row) const {
    std::vector<RowEdge> kept;
    for (const RowEdge& e : lists[row]) {
      if (e.key >= 0) kept.push_back(e);
    }
    return kept;
  }
};

enum class Weights { kAny, kFewValues, kEqual, kFarApart };

Rows random_rows(const std::vector<std::int64_t>& sizes, Weights kind, std::uint64_t seed) {
  Random random(seed);
  Rows rows;
  rows.keys = 4000;
  for (const std::int64_t size : sizes) {
    std::vector<std::int32_t> keys(static_cast<std::size_t>(rows.keys));
    for (std::size_t j = 0; j < keys.size(); ++j) keys[j] = static_cast<std::int32_t>(j);
    for (std::size_t n = keys.size(); n > 1; --n)
      std::swap(keys[n - 1], keys[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(n)))]);
    std::vector<RowEdge> list;
    for (std::int64_t n = 0; n < size; ++n) {
      const double u = random.uniform();
      const double weight = kind == Weights::kAny         ? u
                            : kind == Weights::kFewValues ? std::floor(4 * u) / 4
                            : kind == Weights::kEqual     ? 1.0
                                                          : std::exp(-600 * u);
      const std::int32_t key = keys[static_cast<std::size_t>(n)];
      list.push_back({weight, random.below(5) == 0 ? ~key : key});
    }
    double sum = 0;
    for (const RowEdge& e : list) sum += e.weight;
    for (RowEdge& e : list) e.weight = sum > 0 ? e.weight / sum : 0;
    rows.lists.push_back(std::move(list));
  }
  return rows;
}

void expect_selected(const Rows& rows, const Selection& selection) {
  std::size_t capacity = 1;
  for (const auto& list : rows.lists) capacity = std::max(capacity, list.size());
  std::vector<std::int32_t> keys(rows.lists.size() * capacity, -7), counts;
  std::vector<double> weights(keys.size(), std::nan("")), masses;
  std::vector<std::int64_t> edge_counts;
  for (std::size_t r = 0; r < rows.lists.size(); ++r) {
    double mass = 0;
    for (std::size_t n = 0; n < rows.lists[r].size(); ++n) {
      keys[r * capacity + n] = rows.lists[r][n].key;
      weights[r * capacity + n] = rows.lists[r][n].weight;
      if (rows.lists[r][n].key >= 0) mass += rows.lists[r][n].weight;
    }
    counts.push_back(static_cast<std::int32_t>(rows.lists[r].size()));
    edge_counts.push_back(static_cast<std::int64_t>(rows.edges(r).size()));
    masses.push_back(mass);
  }
  const DeviceArray<std::int32_t> d_keys(keys), d_counts(counts);
  const DeviceArray<double> d_weights(weights), d_masses(masses);
  const DeviceArray<float> d_scores(keys.size());
  const DeviceArray<std::int64_t> d_edges(edge_counts);
  const cuda::Candidates candidates{d_keys.data(), d_scores.data(), d_counts.data(), nullptr,
                                    static_cast<std::int64_t>(capacity)};
  cuda_ok(cuda::launch_select_rows(static_cast<std::int64_t>(rows.lists.size()), rows.keys, candidates,
                                   d_weights.data(), selection.top_k, selection.mass, d_edges.data(), d_masses.data(),
                                   kDefaultStream));
  wait_for_device();
  const auto kept_keys = d_keys.download();
  const auto kept_counts = d_edges.download();
  const auto kept_masses = d_masses.download();
  for (std::size_t r = 0; r < rows.lists.size(); ++r) {
    SCOPED_TRACE(fmt::format("row {} of {} candidates", r, rows.lists[r].size()));
    std::vector<RowEdge> expected = rows.edges(r);
    select_row(selection, expected);
    std::vector<std::int32_t> actual, wanted;
    double mass = 0;
    for (const RowEdge& e : expected) {
      wanted.push_back(e.key);
      mass += e.weight;
    }
    for (std::size_t n = 0; n < rows.lists[r].size(); ++n) {
      const std::int32_t before = rows.lists[r][n].key, after = kept_keys[r * capacity + n];
      ASSERT_TRUE(after == before || (before >= 0 && after == ~before)) << before << " became " << after;
      if (after >= 0) actual.push_back(after);
    }
    std::sort(actual.begin(), actual.end());
    ASSERT_EQ(actual, wanted);
    EXPECT_EQ(kept_counts[r], static_cast<std::int64_t>(wanted.size()));
    EXPECT_NEAR(kept_masses[r], mass, 1e-14);
  }
}

TEST(SelectRows, KeepsWhatTheHostKeeps) {
  for (const Weights kind : {Weights::kAny, Weights::kFewValues, Weights::kEqual, Weights::kFarApart}) {
    const Rows rows = random_rows({0, 1, 2, 31, 33, 100, 700}, kind, 5);
    for (const std::int64_t top_k : {0, 1, 3, 32, 90, 5000}) {
      for (const double mass : {0.0, 1e-9, 0.2, 0.5, 0.75, 1.0}) {
        if (top_k == 0 && mass == 0) continue;
        SCOPED_TRACE(fmt::format("weights {}, top {}, mass {}", static_cast<int>(kind), top_k, mass));
        Selection selection;
        selection.top_k = top_k;
        selection.mass = mass;
        expect_selected(rows, selection);
      }
    }
  }
}

TEST(SelectRows, EveryScheduleKeepsTheSame) {
  const Rows rows = random_rows({5, 64, 65, 200}, Weights::kFewValues, 6);
  Selection selection;
  selection.top_k = 40;
  selection.mass = 0.6;
  for_every_schedule([&] { expect_selected(rows, selection); });
}

// 1 / n in double, n times: where a mass of m / n ends is a question of the last bit.
TEST(SelectRows, EqualWeightsReachAMassWhereTheHostSays) {
  for (const std::int64_t n : {3, 7, 10, 49, 100}) {
    Rows rows;
    rows.keys = 200;
    rows.lists.resize(1);
    for (std::int64_t j = 0; j < n; ++j)
      rows.lists[0].push_back({1.0 / static_cast<double>(n), static_cast<std::int32_t>(j)});
    for (std::int64_t m = 1; m <= n; ++m) {
      SCOPED_TRACE(fmt::format("{} of {}", m, n));
      Selection selection;
      const double mass = static_cast<double>(m) / static_cast<double>(n);
      for (const double wanted : {std::nextafter(mass, 0.0), mass, std::nextafter(mass, 2.0)}) {
        selection.mass = std::min(wanted, 1.0);
        expect_selected(rows, selection);
      }
    }
  }
}

}  // namespace
}  // namespace ag::test
