// SPDX-License-Identifier: Apache-2.0
// On the way into another sink: of the edges that arrive, the heaviest so many go on; rows keep their other figures.
//
// Edges are ordered by weight, falling, then as they arrive: a total order, so the answer is the same for every number
// of threads. Once a budget is full, an edge that is no heavier than the lightest kept one can be dropped when it
// comes, so that twice the budget (65,536 edges at least) and a row are all that is ever held.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "edge_list.hpp"

namespace ag {

class BudgetSink : public GraphSink {
 public:
  // Both count edges; 0: no such budget. With one of the whole graph nothing goes on before finish().
  BudgetSink(std::uint64_t of_graph, std::uint64_t of_slice, GraphSink& next);

  void set_metadata(const Metadata& metadata) override;
  void begin_slice(const SliceInfo& slice, DType weight_dtype) override;
  void rows(const RowBlock& block) override;
  void end_slice(const SliceSums& sums) override;

  // Hands on what is held, and the report with the mass that is kept now. Can be begun anew afterwards.
  void finish(const RunReport& report) override;

  // Of what finish() handed on last.
  std::int64_t edge_count() const { return handed_on_; }
  double mass_dropped() const { return mass_dropped_; }

 private:
  struct Edge {
    double weight = 0;
    std::int64_t row = 0;  // of all rows that are held
    std::int32_t key = 0;
  };
  struct Held {
    SliceInfo info;
    DType weight_dtype = DType::kF32;
    std::int64_t first_row = 0;
    SliceSums sums;
  };

  static bool heavier(const Edge& a, const Edge& b);
  // Leaves the `budget` heaviest of the edges from `begin` on, and says how heavy the lightest of them is.
  double keep_heaviest(std::size_t begin, std::uint64_t budget);
  void prune();
  void hand_on();
  void hand_on(const Held& slice, std::int64_t end_row, std::size_t& edge);

  std::uint64_t of_graph_, of_slice_;
  std::size_t most_held_ = 0;  // edges; with one row more they are pruned
  GraphSink& next_;

  std::vector<Held> slices_;     // that have not gone on; the last one is open until its end_slice
  RowColumns stats_;             // of their rows
  std::vector<bool> is_cut_;     // whether a row lost an edge
  std::vector<Edge> edges_;      // of their rows
  std::size_t slice_begin_ = 0;  // in edges_, of the open slice
  // Edges no heavier than this are not among the kept ones.
  double graph_floor_ = -std::numeric_limits<double>::infinity();
  double slice_floor_ = -std::numeric_limits<double>::infinity();
  double mass_dropped_ = 0;
  std::int64_t handed_on_ = 0;
};

}  // namespace ag
