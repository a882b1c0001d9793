// SPDX-License-Identifier: Apache-2.0
// Statistics of rows: of one by itself, and of many as columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "numbers.hpp"

namespace ag {

struct RowStats {
  double logsumexp = -kInfinity;  // natural, sinks included
  double maximum = -kInfinity;    // largest score (matrix: weight)
  double kept_mass = 0;           // sum of the weights of the row's edges
  double entropy = kNaN;          // nats, if asked for
  std::int32_t max_key = -1;      // smallest among equals; -1: the row has no allowed key
  // |ln(computed weight / exact one)| stays below it. NaN: the backend does not say; then below 1/64, but for scores
  // that double cannot hold.
  double eps = kNaN;
};

// Borrowed columns of RowStats, one entry per row.
struct RowStatsView {
  const double* logsumexp = nullptr;
  const double* maximum = nullptr;
  const double* kept_mass = nullptr;
  const double* entropy = nullptr;  // null: NaN in every row
  const std::int32_t* max_key = nullptr;
  const float* eps = nullptr;  // null: NaN in every row

  RowStats operator[](std::int64_t r) const {
    RowStats row{logsumexp[r], maximum[r], kept_mass[r], kNaN, max_key[r], kNaN};
    if (entropy != nullptr) row.entropy = entropy[r];
    if (eps != nullptr) row.eps = static_cast<double>(eps[r]);
    return row;
  }
  // The rows from `first` on.
  RowStatsView from(std::int64_t first) const {
    return {logsumexp + first, maximum + first,
            kept_mass + first, entropy != nullptr ? entropy + first : nullptr,
            max_key + first,   eps != nullptr ? eps + first : nullptr};
  }
};

// The columns that a graph keeps, all of one length: no eps.
struct RowColumns {
  std::vector<double> logsumexp, maximum, kept_mass, entropy;
  std::vector<std::int32_t> max_key;

  RowColumns() = default;
  RowColumns(std::initializer_list<RowStats> rows);
  std::size_t size() const { return logsumexp.size(); }
  bool empty() const { return logsumexp.empty(); }
  RowStatsView view() const {
    return {logsumexp.data(), maximum.data(), kept_mass.data(), entropy.data(), max_key.data(), nullptr};
  }
  void push_back(const RowStats& row);
  void append(const RowStatsView& rows, std::int64_t count);
  void clear();
};

// The columns of a backend that states how near its weights are.
struct StatedColumns {
  RowColumns columns;
  std::vector<float> eps;  // rounded up, to stay a bound

  std::size_t size() const { return columns.size(); }
  bool empty() const { return columns.empty(); }
  RowStatsView view() const;
  void push_back(const RowStats& row);
  void clear();
};

}  // namespace ag
