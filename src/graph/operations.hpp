// SPDX-License-Identifier: Apache-2.0
// Questions about a graph, and smaller graphs out of larger ones.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "edge_list.hpp"

namespace ag {

struct Edge {
  SliceId slice;
  std::int64_t query = 0;
  std::int64_t key = 0;
  double weight = 0;
};

// The n heaviest edges, heaviest first, ties in table order (batch, layer, head, query, key). O(E log n), memory O(n).
std::vector<Edge> top(const EdgeList& graph, std::int64_t n);

struct SweepRow {
  double threshold = 0;
  std::int64_t edges = 0;
  double kept_mass = 0;    // mean over rows that have keys
  std::int64_t nodes = 0;  // (slice, position) pairs that are an end of at least one edge
};

// Counts for every threshold in one pass, keeping no edge: one sorted list of thresholds, one counter each. Position p
// of a slice is query p and key p alike.
class SweepSink : public GraphSink {
 public:
  explicit SweepSink(std::vector<double> thresholds);  // any order; rows() answers in the order given
  void set_metadata(const Metadata&) override {}
  void begin_slice(const SliceInfo& slice, DType weight_dtype) override;
  void rows(const RowBlock& block) override;
  void end_slice(const SliceSums& sums) override;
  void finish(const RunReport&) override {}
  std::vector<SweepRow> result() const;

 private:
  std::vector<double> thresholds_;           // ascending
  std::vector<std::size_t> order_;           // place of thresholds_[n] in the caller's list
  std::vector<std::int64_t> edges_, nodes_;  // by sorted threshold: exactly the edges/nodes whose best threshold it is
  std::vector<double> mass_;
  std::int64_t rows_with_keys_ = 0;
  std::int64_t query_begin_ = 0;
  std::vector<std::int32_t> best_;  // [positions of the slice]: 1 + index of the highest threshold an end of p reaches
};

std::vector<SweepRow> sweep(const EdgeList& graph, std::span<const double> thresholds);

struct Summary {
  std::int64_t rows = 0, edges = 0, empty_rows = 0, rows_without_edges = 0, max_row_edges = 0;
  double mean_row_edges = 0;
  double kept_mass_mean = 0, kept_mass_min = 0;
  double weight_min = 0, weight_max = 0;  // NaN without edges
  double entropy_mean = 0;                // NaN unless rows carry it
  double mean_distance = 0;               // weighted query - key; NaN without edges
  double self_share = 0, previous_share = 0, first_share = 0;
};

// Of one slice, or of all of them.
Summary summarise(const EdgeList& graph, std::optional<std::size_t> slice);

struct Difference {
  std::int64_t edges_a = 0, edges_b = 0, only_a = 0, only_b = 0, inside_band = 0, common = 0;
  double max_weight_difference = 0;  // relative, over common edges
  std::int64_t slices_only_a = 0, slices_only_b = 0;
  std::optional<Edge> first;  // first edge outside the band that is in one only
  bool first_in_a = false;
};

// Slices are matched by (batch, layer, head), rows by query. An edge in one graph only is inside the band when |w / t -
// 1| <= band for the larger of the two graphs' thresholds t (metadata "threshold"; none: every such edge differs).
Difference diff(const EdgeList& a, const EdgeList& b, double band);

struct Part {
  double threshold = 0;
  std::int64_t top_k = 0;
  std::vector<std::int64_t> layers, heads;  // empty: all
};

// Edges that satisfy the part, rows kept, kept mass and counts made anew. kNotFound when a layer or head is not in the
// graph.
EdgeList part_of(const EdgeList& graph, const Part& part);

}  // namespace ag
