// SPDX-License-Identifier: Apache-2.0
#include "budget_sink.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "../core/numbers.hpp"

namespace ag {
namespace {

constexpr std::size_t kLeastHeld = std::size_t{1} << 16;  // edges: pruning fewer is not worth a pass
constexpr double kNoFloor = -std::numeric_limits<double>::infinity();

}  // namespace

BudgetSink::BudgetSink(std::uint64_t of_graph, std::uint64_t of_slice, GraphSink& next)
    : of_graph_(of_graph), of_slice_(of_slice), next_(next) {
  const std::size_t budget = of_graph > 0 ? of_graph : of_slice;
  most_held_ = std::max(kLeastHeld, budget > SIZE_MAX / 2 ? SIZE_MAX : 2 * budget);
}

bool BudgetSink::heavier(const Edge& a, const Edge& b) {
  if (a.weight != b.weight) return a.weight > b.weight;
  return a.row != b.row ? a.row < b.row : a.key < b.key;
}

double BudgetSink::keep_heaviest(std::size_t begin, std::uint64_t budget) {
  if (edges_.size() - begin < budget) return kNoFloor;
  const auto first = edges_.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto last = first + static_cast<std::ptrdiff_t>(budget);
  std::nth_element(first, last - 1, edges_.end(), heavier);
  for (auto edge = last; edge != edges_.end(); ++edge) is_cut_[idx(edge->row)] = true;
  edges_.erase(last, edges_.end());
  return (last - 1)->weight;
}

void BudgetSink::set_metadata(const Metadata& metadata) {
  mass_dropped_ = 0;
  handed_on_ = 0;
  graph_floor_ = kNoFloor;
  Metadata with = metadata;
  if (of_graph_ > 0) with.facts["budget"] = fmt::format("{}", of_graph_);
  if (of_slice_ > 0) with.facts["head_budget"] = fmt::format("{}", of_slice_);
  next_.set_metadata(with);
}

void BudgetSink::begin_slice(const SliceInfo& slice, DType weight_dtype) {
  slices_.push_back({slice, weight_dtype, static_cast<std::int64_t>(stats_.size()), {}});
  slice_begin_ = edges_.size();
  slice_floor_ = graph_floor_;
}

void BudgetSink::rows(const RowBlock& block) {
  const auto first = static_cast<std::int64_t>(stats_.size());
  stats_.append(block.stats, block.row_count);
  is_cut_.resize(stats_.size(), false);
  for (std::int64_t r = 0; r < block.row_count; ++r) {
    const std::int64_t row = first + r;
    for (std::int64_t e = block.offsets[r]; e < block.offsets[r + 1]; ++e) {
      const double weight = block.weight(e);
      if (weight > slice_floor_) {
        edges_.push_back({weight, row, block.keys[e]});
      } else {
        is_cut_[idx(row)] = true;
      }
    }
    if (edges_.size() >= most_held_) prune();
  }
}

// The slice first: of the heaviest of the graph, none may be one that its slice has no room for.
void BudgetSink::prune() {
  if (of_slice_ > 0) slice_floor_ = std::max(slice_floor_, keep_heaviest(slice_begin_, of_slice_));
  if (of_graph_ == 0) return;
  graph_floor_ = std::max(graph_floor_, keep_heaviest(0, of_graph_));
  slice_floor_ = std::max(slice_floor_, graph_floor_);
  const auto earlier = [first = slices_.back().first_row](const Edge& edge) { return edge.row < first; };
  slice_begin_ = static_cast<std::size_t>(std::partition(edges_.begin(), edges_.end(), earlier) - edges_.begin());
}

void BudgetSink::end_slice(const SliceSums& sums) {
  slices_.back().sums = sums;
  if (of_slice_ > 0) keep_heaviest(slice_begin_, of_slice_);
  if (of_graph_ == 0) hand_on();
}

// One slice, whose edges begin at `edge`, where those of the next one are left.
void BudgetSink::hand_on(const Held& slice, std::int64_t end_row, std::size_t& edge) {
  next_.begin_slice(slice.info, slice.weight_dtype);
  const std::size_t begin = edge;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> keys;
  std::vector<float> f32;
  std::vector<double> f64;
  const bool in_double = slice.weight_dtype == DType::kF64;
  for (std::int64_t row = slice.first_row; row < end_row; ++row) {
    double mass = 0;
    for (; edge < edges_.size() && edges_[edge].row == row; ++edge) {
      keys.push_back(edges_[edge].key);
      mass += edges_[edge].weight;
      if (in_double) {
        f64.push_back(edges_[edge].weight);
      } else {
        f32.push_back(static_cast<float>(edges_[edge].weight));
      }
    }
    offsets.push_back(static_cast<std::int64_t>(keys.size()));
    if (is_cut_[idx(row)]) {
      double& kept_mass = stats_.kept_mass[idx(row)];
      mass_dropped_ += kept_mass - mass;
      kept_mass = mass;
    }
  }
  handed_on_ += static_cast<std::int64_t>(edge - begin);
  RowBlock block;
  block.query_begin = slice.info.query_begin;
  block.row_count = end_row - slice.first_row;
  block.offsets = offsets.data();
  block.keys = keys.data();
  block.weights = in_double ? static_cast<const void*>(f64.data()) : f32.data();
  block.weight_dtype = slice.weight_dtype;
  block.stats = stats_.view().from(slice.first_row);
  if (block.row_count > 0) next_.rows(block);
  next_.end_slice(slice.sums);
}

void BudgetSink::hand_on() {
  std::sort(edges_.begin(), edges_.end(),
            [](const Edge& a, const Edge& b) { return std::pair(a.row, a.key) < std::pair(b.row, b.key); });
  std::size_t edge = 0;
  for (std::size_t s = 0; s < slices_.size(); ++s) {
    const bool last = s + 1 == slices_.size();
    hand_on(slices_[s], last ? static_cast<std::int64_t>(stats_.size()) : slices_[s + 1].first_row, edge);
  }
  slices_.clear();
  stats_.clear();
  is_cut_.clear();
  edges_.clear();
}

void BudgetSink::finish(const RunReport& report) {
  if (of_graph_ > 0) keep_heaviest(0, of_graph_);
  hand_on();
  RunReport of_kept = report;
  of_kept.kept_mass_sum -= mass_dropped_;
  next_.finish(of_kept);
}

}  // namespace ag
