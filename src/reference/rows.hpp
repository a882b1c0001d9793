// SPDX-License-Identifier: Apache-2.0
// The two jobs of the reference backend, and what both need.
#pragma once

#include "../core/control.hpp"
#include "../core/problem.hpp"
#include "../core/row_block.hpp"

namespace ag::reference {

RunReport extract_rows(const Problem& problem, RowSink& sink, Control& control);
RunReport filter_rows(const MatrixProblem& problem, RowSink& sink, Control& control);

// What the mask tensor adds to pair (i, j): -inf masks the key, 0 without a tensor. NaN and +inf are kNonfinite.
double checked_mask_bias(const MaskRules& mask, std::int64_t batch, std::int64_t head, std::int64_t i, std::int64_t j);

// Attention received per key and mass per distance, as far as they were asked for.
class SumsBuilder {
 public:
  SumsBuilder(const Request& request, std::int64_t key_count)
      : sums_(empty_sums(request, key_count)), query_offset_(request.mask.query_offset) {}
  void add(std::int64_t i, std::int64_t j, double weight);
  const SliceSums& sums() const { return sums_; }

 private:
  SliceSums sums_;
  std::int64_t query_offset_;
};

}  // namespace ag::reference
