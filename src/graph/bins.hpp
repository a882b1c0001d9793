// SPDX-License-Identifier: Apache-2.0
// A window of a slice as a grid of cells: what pictures of a graph are made of.
#pragma once

#include <cstdint>
#include <span>

#include "edge_list.hpp"

namespace ag {

enum class BinValue { kMax, kMean, kSum };

struct Bins {
  std::int64_t query_begin = 0, query_end = 0;  // the window; both 0: all queries of the slice
  std::int64_t key_begin = 0, key_end = 0;      // both 0: all keys
  std::int64_t rows = 0, columns = 0;           // the grid
  BinValue value = BinValue::kMax;
};

// Cell c of `cells` holds the positions p of [0, n) with p * cells / n == c. With more cells than positions some are
// empty.
std::int64_t cell_of(std::int64_t position, std::int64_t n, std::int64_t cells);
std::int64_t first_in_cell(std::int64_t cell, std::int64_t n, std::int64_t cells);

// The window that is meant, its ends filled in. kArgument when it leaves the slice or the grid has no cell or more than
// 2^28.
Bins checked_bins(const Slice& slice, const Bins& bins);

// Writes rows * columns cells, row-major: the heaviest weight of a cell's edges, their sum, or the sum over the pairs
// that the cell covers. A cell without edges is 0. O(edges of the rows in the window).
void bin_edges(const EdgeList& graph, const Slice& slice, const Bins& bins, std::span<double> cells);

}  // namespace ag
