// SPDX-License-Identifier: Apache-2.0
#include "bins.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "../core/error.hpp"

namespace ag {
namespace {

constexpr std::int64_t kMostCells = std::int64_t{1} << 28;

struct Range {
  std::int64_t begin, end;
};

Range checked_range(const char* what, std::int64_t begin, std::int64_t end, std::int64_t least, std::int64_t most) {
  if (begin == 0 && end == 0) return {least, most};
  if (begin < least || end > most || begin > end)
    fail(Status::kArgument, "the window of {} is {}:{}; the slice has {}:{}", what, begin, end, least, most);
  return {begin, end};
}

// Pairs that a cell covers.
double pairs(const Bins& b, std::int64_t row, std::int64_t column) {
  const auto extent = [](std::int64_t cell, std::int64_t n, std::int64_t cells) {
    return static_cast<double>(first_in_cell(cell + 1, n, cells) - first_in_cell(cell, n, cells));
  };
  return extent(row, b.query_end - b.query_begin, b.rows) * extent(column, b.key_end - b.key_begin, b.columns);
}

}  // namespace

// Positions and cells are below 2^31 and 2^28: the products fit.
std::int64_t cell_of(std::int64_t position, std::int64_t n, std::int64_t cells) { return position * cells / n; }
std::int64_t first_in_cell(std::int64_t cell, std::int64_t n, std::int64_t cells) {
  return (cell * n + cells - 1) / cells;
}

Bins checked_bins(const Slice& slice, const Bins& bins) {
  Bins out = bins;
  const SliceInfo& info = slice.info;
  const Range queries =
      checked_range("queries", bins.query_begin, bins.query_end, info.query_begin, info.query_begin + info.query_count);
  const Range keys = checked_range("keys", bins.key_begin, bins.key_end, 0, info.key_count);
  if (queries.end - queries.begin > std::numeric_limits<std::int32_t>::max())
    fail(Status::kArgument, "the window holds {} queries; at most 2^31 - 1 can be drawn at once",
         queries.end - queries.begin);
  if (bins.rows < 1 || bins.columns < 1 || bins.rows > kMostCells / bins.columns)
    fail(Status::kArgument, "the grid is {} x {} cells; it has at least one cell and at most 2^28", bins.rows,
         bins.columns);
  out.query_begin = queries.begin;
  out.query_end = queries.end;
  out.key_begin = keys.begin;
  out.key_end = keys.end;
  return out;
}

void bin_edges(const EdgeList& graph, const Slice& slice, const Bins& bins, std::span<double> cells) {
  const Bins b = checked_bins(slice, bins);
  std::fill(cells.begin(), cells.end(), 0.0);
  const std::int64_t queries = b.query_end - b.query_begin, keys = b.key_end - b.key_begin;
  if (queries == 0 || keys == 0) return;

  std::vector<std::int32_t> column_of(static_cast<std::size_t>(keys));  // a division a key, not one an edge
  for (std::int64_t k = 0; k < keys; ++k)
    column_of[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(cell_of(k, keys, b.columns));

  const std::int32_t* const first = graph.keys.data() + slice.first_edge;
  for (std::int64_t query = b.query_begin; query < b.query_end; ++query) {
    const auto at = static_cast<std::size_t>(slice.first_offset + query - slice.info.query_begin);
    const std::int32_t* const end = first + graph.offsets[at + 1];
    double* const row = cells.data() + cell_of(query - b.query_begin, queries, b.rows) * b.columns;
    const auto begin_key = static_cast<std::int32_t>(b.key_begin);
    for (const auto* key = std::lower_bound(first + graph.offsets[at], end, begin_key); key != end && *key < b.key_end;
         ++key) {
      double& cell = row[column_of[static_cast<std::size_t>(*key - b.key_begin)]];
      const double weight = graph.weight(key - graph.keys.data());
      cell = b.value == BinValue::kMax ? std::max(cell, weight) : cell + weight;
    }
  }
  if (b.value != BinValue::kMean) return;
  for (std::int64_t r = 0; r < b.rows; ++r) {
    for (std::int64_t c = 0; c < b.columns; ++c) {
      double& cell = cells[static_cast<std::size_t>(r * b.columns + c)];
      if (cell != 0) cell /= pairs(b, r, c);
    }
  }
}

}  // namespace ag
