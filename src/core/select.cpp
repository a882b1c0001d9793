// SPDX-License-Identifier: Apache-2.0
#include "select.hpp"

#include <algorithm>

namespace ag {

void select_row(const Selection& selection, std::vector<RowEdge>& edges) {
  const auto by_key = [](const RowEdge& a, const RowEdge& b) { return a.key < b.key; };
  const auto heavier = [](const RowEdge& a, const RowEdge& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.key < b.key;
  };
  const auto top = static_cast<std::size_t>(selection.top_k);
  if (top > 0 && edges.size() > top) {
    std::nth_element(edges.begin(), edges.begin() + static_cast<std::ptrdiff_t>(top), edges.end(), heavier);
    edges.resize(top);
  }
  if (selection.mass > 0) {
    std::sort(edges.begin(), edges.end(), heavier);
    double sum = 0;
    std::size_t n = 0;
    while (n < edges.size() && sum < selection.mass) sum += edges[n++].weight;
    edges.resize(n);
  }
  if (!std::is_sorted(edges.begin(), edges.end(), by_key)) std::sort(edges.begin(), edges.end(), by_key);
}

double mass_cut(double mass, std::int64_t m) { return m > 0 ? (1.0 - mass) / static_cast<double>(m) : 0.0; }

}  // namespace ag
