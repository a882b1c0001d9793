// SPDX-License-Identifier: Apache-2.0
// Gathers finished rows into blocks for the sink and keeps the counts of the report.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "../core/row_block.hpp"
#include "../core/select.hpp"

namespace ag::reference {

class RowWriter {
 public:
  explicit RowWriter(RowSink& sink) : sink_(sink) {}

  void begin_slice(const SliceInfo& slice, DType weight_dtype);
  // The next row of the slice; keys ascend. A row without allowed keys has stats.max_key == -1.
  void add_row(const RowStats& stats, std::span<const RowEdge> edges);
  void end_slice(const SliceSums& sums);

  RunReport& report() { return report_; }

 private:
  void flush();

  RowSink& sink_;
  RunReport report_;
  DType weight_dtype_ = DType::kF32;
  std::int64_t query_begin_ = 0;  // of the block being gathered
  std::vector<std::int64_t> offsets_{0};
  std::vector<std::int32_t> keys_;
  std::vector<float> weights_f32_;
  std::vector<double> weights_f64_;
  StatedColumns stats_;
};

}  // namespace ag::reference
