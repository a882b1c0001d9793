// SPDX-License-Identifier: Apache-2.0
#include "operations.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "choice.hpp"

#include "../core/numbers.hpp"

namespace ag {
namespace {

// Calls f(query, first edge, end edge, row) for every row of the slice; edges and row index the flat arrays.
template <class F>
void for_each_row(const EdgeList& graph, const Slice& slice, F&& f) {
  const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    f(slice.info.query_begin + r, slice.first_edge + offsets[r], slice.first_edge + offsets[r + 1],
      static_cast<std::size_t>(slice.first_row + r));
  }
}

// Heaviest first, ties in table order. Every pair of edges is ordered: a NaN from a damaged graph weighs least.
bool precedes(const Edge& a, const Edge& b) {
  const auto rank = [](double w) { return std::isnan(w) ? -std::numeric_limits<double>::infinity() : w; };
  if (rank(a.weight) != rank(b.weight)) return rank(a.weight) > rank(b.weight);
  if (a.slice != b.slice) return a.slice < b.slice;
  if (a.query != b.query) return a.query < b.query;
  return a.key < b.key;
}

double ratio(double part, double whole, double without) { return whole != 0 ? part / whole : without; }

}  // namespace

namespace {

// The n heaviest of the edges that `each` calls its argument with.
template <class Each>
std::vector<Edge> heaviest(const EdgeList& graph, std::int64_t n, Each&& each) {
  const auto wanted = static_cast<std::size_t>(std::clamp<std::int64_t>(n, 0, graph.edge_count()));
  std::vector<Edge> heap;  // the best so far, the least of them in front
  if (wanted == 0) return heap;
  heap.reserve(wanted);
  each([&](const Edge& edge) {
    if (heap.size() == wanted) {
      if (!precedes(edge, heap.front())) return;
      std::pop_heap(heap.begin(), heap.end(), precedes);
      heap.back() = edge;
    } else {
      heap.push_back(edge);
    }
    std::push_heap(heap.begin(), heap.end(), precedes);
  });
  std::sort_heap(heap.begin(), heap.end(), precedes);
  return heap;
}

}  // namespace

std::vector<Edge> top(const EdgeList& graph, std::int64_t n) {
  return heaviest(graph, n, [&](auto&& offer) {
    for (const Slice& slice : graph.slices) {
      for_each_row(graph, slice, [&](std::int64_t query, std::int64_t begin, std::int64_t end, std::size_t) {
        for (std::int64_t e = begin; e < end; ++e)
          offer(Edge{slice.info.id, query, graph.keys[static_cast<std::size_t>(e)], graph.weight(e)});
      });
    }
  });
}

std::vector<Edge> top_of(const EdgeList& graph, const Part& part, std::int64_t n) {
  if (part.top_k > 0) return top(part_of(graph, part), n);
  const Choice choice(graph, part);
  return heaviest(graph, n, [&](auto&& offer) {
    for (const Slice& slice : graph.slices) {
      if (!choice.wants_slice(slice.info.id)) continue;
      const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
      for (std::int64_t r = choice.first_row(slice.info); r < choice.end_row(slice.info); ++r) {
        const std::int64_t query = slice.info.query_begin + r, position = choice.position_of_query(query);
        if (!choice.wants_query(position)) continue;
        for (std::int64_t e = slice.first_edge + offsets[r]; e < slice.first_edge + offsets[r + 1]; ++e) {
          const Edge edge{slice.info.id, query, graph.keys[static_cast<std::size_t>(e)], graph.weight(e)};
          if (choice.wants_edge(position, edge.key, edge.weight)) offer(edge);
        }
      }
    }
  });
}

Summary summarise(const EdgeList& graph, std::optional<std::size_t> slice) {
  Summary s;
  s.weight_min = std::numeric_limits<double>::infinity();
  s.weight_max = -std::numeric_limits<double>::infinity();
  double kept_sum = 0, kept_min = std::numeric_limits<double>::infinity();
  double entropy_sum = 0, weight_sum = 0, distance_sum = 0, self_sum = 0, previous_sum = 0, first_sum = 0;
  std::int64_t entropy_rows = 0;

  const std::int64_t offset = query_offset(graph.metadata);
  const auto add_row = [&](std::int64_t query, std::int64_t begin, std::int64_t end, std::size_t row) {
    const std::int64_t count = end - begin;
    const std::int64_t position = position_of(query, offset);
    double row_sum = 0;
    for (std::int64_t e = begin; e < end; ++e) {
      const std::int64_t key = graph.keys[static_cast<std::size_t>(e)];
      const double w = graph.weight(e);
      s.weight_min = std::min(s.weight_min, w);
      s.weight_max = std::max(s.weight_max, w);
      row_sum += w;
      distance_sum += w * static_cast<double>(position - key);
      if (key == position) self_sum += w;
      if (key == position - 1) previous_sum += w;
      if (key == 0) first_sum += w;
    }
    s.rows += 1;
    s.edges += count;
    s.max_row_edges = std::max(s.max_row_edges, count);
    weight_sum += row_sum;
    if (!has_keys(graph.rows.maximum[row], graph.rows.max_key[row], count)) {
      s.empty_rows += 1;
      return;
    }
    s.rows_without_edges += count == 0 ? 1 : 0;
    const double kept = std::isnan(graph.rows.kept_mass[row]) ? row_sum : graph.rows.kept_mass[row];
    kept_sum += kept;
    kept_min = std::min(kept_min, kept);
    if (!std::isnan(graph.rows.entropy[row])) {
      entropy_sum += graph.rows.entropy[row];
      entropy_rows += 1;
    }
  };

  if (slice) {
    for_each_row(graph, graph.slices.at(*slice), add_row);
  } else {
    for (const Slice& one : graph.slices) for_each_row(graph, one, add_row);
  }

  const std::int64_t rows_with_keys = s.rows - s.empty_rows;
  s.mean_row_edges = ratio(static_cast<double>(s.edges), static_cast<double>(s.rows), 0);
  s.kept_mass_mean = ratio(kept_sum, static_cast<double>(rows_with_keys), 0);
  s.kept_mass_min = rows_with_keys > 0 ? kept_min : 0;
  s.entropy_mean = ratio(entropy_sum, static_cast<double>(entropy_rows), kNaN);
  if (s.edges == 0) s.weight_min = s.weight_max = kNaN;
  s.mean_distance = ratio(distance_sum, weight_sum, kNaN);
  s.self_share = ratio(self_sum, weight_sum, 0);
  s.previous_share = ratio(previous_sum, weight_sum, 0);
  s.first_share = ratio(first_sum, weight_sum, 0);
  // Between two sequences there is no distance.
  if (graph.metadata.two_sided()) s.mean_distance = s.self_share = s.previous_share = kNaN;
  return s;
}

}  // namespace ag
