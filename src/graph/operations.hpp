// SPDX-License-Identifier: Apache-2.0
// Questions about a graph, and smaller graphs out of larger ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
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

// Whether a row has an allowed key. A row of unknown statistics (maximum NaN: the graph came from a table of edges)
// counts as one that has.
bool has_keys(double maximum, std::int32_t max_key, std::int64_t edges);

struct SweepRow {
  double threshold = 0;
  std::int64_t edges = 0;
  double kept_mass = 0;    // mean over rows that have keys; 0 without such rows
  std::int64_t nodes = 0;  // (slice, position) pairs that are an end of at least one edge
};

// Stored weights at or above this are edges at threshold t. Not simply t in two cases: what a graph holds has already
// passed its own threshold (0 when it names none), and a softmax weight rounded to f32 (fact "weights") is compared
// with t rounded alike, or an exact tie such as 1 / 100 against 0.01 would be lost.
double stored_cut(const Metadata& metadata, DType weight_dtype, double t);

// A rank per position, kept in pages: memory goes with the positions touched, not with their range, which a file may
// claim to be anything.
class PositionRanks {
 public:
  void raise(std::int64_t position, std::int32_t rank);
  // Calls f(rank) for every position of a rank above 0, and forgets them all.
  template <class F>
  void drain(F&& f) {
    for (const auto& [number, page] : pages_)
      for (const std::int32_t rank : page)
        if (rank > 0) f(rank);
    pages_.clear();
    last_page_ = nullptr;
  }

 private:
  static constexpr int kPageBits = 9;
  using Page = std::array<std::int32_t, std::size_t{1} << kPageBits>;
  std::unordered_map<std::int64_t, Page> pages_;
  Page* last_page_ = nullptr;
  std::int64_t last_number_ = 0;
};

// Counts for every threshold in one pass, keeping no edge: one sorted list of thresholds, one counter each. Position p
// of a slice is key p and the query that stands there, see query_offset().
class SweepSink : public GraphSink {
 public:
  explicit SweepSink(std::vector<double> thresholds);  // any order; rows() answers in the order given
  void set_metadata(const Metadata& metadata) override {
    metadata_.facts = metadata.facts;
    query_offset_ = query_offset(metadata);
  }
  void begin_slice(const SliceInfo& slice, DType weight_dtype) override;
  void rows(const RowBlock& block) override;
  void end_slice(const SliceSums& sums) override;
  void finish(const RunReport&) override {}
  std::vector<SweepRow> result() const;  // once every slice begun has ended

 private:
  std::vector<double> thresholds_;  // as the caller gave them
  std::vector<std::size_t> order_;  // places in thresholds_, by ascending threshold
  std::vector<double> cuts_;        // stored_cut of the thresholds in that order: ascending too
  // By rank - 1: the edges and positions that reach exactly that many cuts, and what those edges weigh.
  std::vector<std::int64_t> edges_, nodes_;
  std::vector<double> mass_;
  std::int64_t rows_with_keys_ = 0;
  PositionRanks ranks_;
  std::int64_t query_offset_ = 0;
  Metadata metadata_;
};

std::vector<SweepRow> sweep(const EdgeList& graph, std::span<const double> thresholds);

struct Summary {
  std::int64_t rows = 0, edges = 0, empty_rows = 0, rows_without_edges = 0, max_row_edges = 0;
  double mean_row_edges = 0;
  double kept_mass_mean = 0, kept_mass_min = 0;  // over rows that have keys; 0 without such rows
  double weight_min = 0, weight_max = 0;         // NaN without edges
  double entropy_mean = 0;                       // NaN unless rows carry it
  double mean_distance = 0;                      // weighted position of the query - key; NaN without edge weight
  // On the query's own position, the one before it, and key 0; 0 without edge weight.
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

// Slices are matched by (batch, layer, head), rows by query: a head made in several query ranges equals one made whole.
// An edge in one graph only is inside the band when |w / t -
// 1| <= band for the larger of the two graphs' thresholds t (metadata "threshold"; none: every such edge differs).
Difference diff(const EdgeList& a, const EdgeList& b, double band);

// The conditions given hold together.
struct Part {
  double threshold = 0;
  std::int64_t top_k = 0;
  std::vector<std::int64_t> layers{}, heads{};                       // empty: all
  std::vector<std::pair<std::int64_t, std::int64_t>> layer_heads{};  // empty: all
  std::int64_t query_begin = 0, query_end = 0;                       // both 0: all
  std::int64_t key_begin = 0, key_end = 0;                           // both 0: all
  std::int64_t distance_min = std::numeric_limits<std::int64_t>::min();
  std::int64_t distance_max = std::numeric_limits<std::int64_t>::max();
  std::vector<std::int64_t> query_positions{}, key_positions{};  // empty: all; otherwise at least 0

  bool has_query_range() const { return query_begin != 0 || query_end != 0; }
  bool has_key_range() const { return key_begin != 0 || key_end != 0; }
  bool has_distances() const {
    return distance_min != std::numeric_limits<std::int64_t>::min() ||
           distance_max != std::numeric_limits<std::int64_t>::max();
  }
};

// Edges that satisfy the part, kept mass and counts made anew. Rows stay, but for those outside the query range; sums
// over queries stay where no row is left out. kNotFound when a layer or head is not in the graph.
EdgeList part_of(const EdgeList& graph, const Part& part);

// The n heaviest edges of the part, as top().
std::vector<Edge> top_of(const EdgeList& graph, const Part& part, std::int64_t n);

}  // namespace ag
