// SPDX-License-Identifier: Apache-2.0
// A ready matrix to edges: stored weights compared exactly.
#include <cmath>
#include <vector>

#include "../core/edge_rule.hpp"
#include "../core/select.hpp"
#include "compensated_sum.hpp"
#include "row_writer.hpp"
#include "rows.hpp"

namespace ag::reference {
namespace {

class Filter {
 public:
  Filter(const MatrixProblem& problem, RowSink& sink, Control& control)
      : p_(problem), control_(control), writer_(sink) {}

  RunReport run() {
    for (std::int64_t b = 0; b < p_.batch(); ++b) {
      for (const std::int64_t h : p_.heads) filter_slice(b, h);
    }
    return writer_.report();
  }

 private:
  void filter_slice(std::int64_t b, std::int64_t h) {
    const std::int64_t rows = p_.query_end - p_.query_begin;
    const auto slices = static_cast<double>(p_.batch() * static_cast<std::int64_t>(p_.heads.size()));
    const DType weight_dtype = p_.weights.dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    writer_.begin_slice({{b, p_.layer, h}, p_.query_begin, rows, p_.keys()}, weight_dtype);
    SumsBuilder sums(p_, p_.keys());
    for (std::int64_t i = p_.query_begin; i < p_.query_end; ++i) {
      control_.poll(
          (static_cast<double>(slices_done_) + static_cast<double>(i - p_.query_begin) / static_cast<double>(rows)) /
          slices);
      filter_row(b, h, i, sums);
    }
    writer_.end_slice(sums.sums());
    ++slices_done_;
  }

  void filter_row(std::int64_t b, std::int64_t h, std::int64_t i, SumsBuilder& sums) {
    const double threshold = p_.selection.threshold;
    const KeyRange range = p_.mask.range(b, i, p_.keys());
    RowStats stats;
    CompensatedSum row_sum, entropy;
    edges_.clear();
    for (std::int64_t j = range.begin; j < range.end; ++j) {
      if (checked_mask_bias(p_.mask, b, h, i, j) == -HUGE_VAL) continue;
      const double weight = load_double(p_.weights.dtype, p_.weights.at(b, h, i, j));
      if (!std::isfinite(weight)) {
        skip_or_fail(weight, b, h, i, j);
        continue;
      }
      const auto key = static_cast<std::int32_t>(j);
      if (stats.max_key < 0 || weight > stats.maximum) {
        stats.maximum = weight;
        stats.max_key = key;
      }
      row_sum.add(weight);
      if (weight > 0) entropy.add(-weight * std::log(weight));
      sums.add(i, j, weight);
      // No threshold keeps every allowed pair, one with a negative weight too.
      if (threshold == 0 || is_matrix_edge(weight, threshold)) edges_.push_back({weight, key});
    }
    select_row(p_.selection, edges_);
    for (const RowEdge& edge : edges_) stats.kept_mass += edge.weight;
    stats.logsumexp = std::log(row_sum.value());  // -inf for an empty row, NaN for a negative sum
    if (p_.stats.entropy) stats.entropy = entropy.value();
    writer_.add_row(stats, edges_);
  }

  void skip_or_fail(double weight, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
    if (p_.nonfinite == Nonfinite::kError) {
      fail(Status::kNonfinite,
           "the matrix holds {} at batch {}, head {}, query {}, key {}; clean the input or ask to skip such weights",
           weight, b, h, i, j);
    }
    ++writer_.report().skipped_nonfinite;
  }

  const MatrixProblem& p_;
  Control& control_;
  RowWriter writer_;
  std::int64_t slices_done_ = 0;
  std::vector<RowEdge> edges_;  // of the row at hand
};

}  // namespace

RunReport filter_rows(const MatrixProblem& problem, RowSink& sink, Control& control) {
  return Filter(problem, sink, control).run();
}

}  // namespace ag::reference
