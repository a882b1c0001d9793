// SPDX-License-Identifier: Apache-2.0
#include "row_writer.hpp"

namespace ag::reference {
namespace {

// Blocks stay small enough that a sink which writes a file keeps little in memory, also when every pair is an edge.
constexpr std::size_t kBlockRows = 256;
constexpr std::size_t kBlockEdges = std::size_t{1} << 20;

}  // namespace

void RowWriter::begin_slice(const SliceInfo& slice, DType weight_dtype) {
  weight_dtype_ = weight_dtype;
  query_begin_ = slice.query_begin;
  sink_.begin_slice(slice, weight_dtype);
}

void RowWriter::add_row(const RowStats& stats, std::span<const RowEdge> edges) {
  for (const RowEdge& edge : edges) {
    keys_.push_back(edge.key);
    if (weight_dtype_ == DType::kF64) {
      weights_f64_.push_back(edge.weight);
    } else {
      weights_f32_.push_back(static_cast<float>(edge.weight));
    }
  }
  offsets_.push_back(static_cast<std::int64_t>(keys_.size()));
  stats_.push_back(stats);
  if (stats.max_key < 0) {
    ++report_.empty_rows;
  } else {
    ++report_.rows_with_keys;
    report_.kept_mass_sum += stats.kept_mass;
  }
  if (stats_.size() >= kBlockRows || keys_.size() >= kBlockEdges) flush();
}

void RowWriter::end_slice(const SliceSums& sums) {
  flush();
  sink_.end_slice(sums);
}

void RowWriter::flush() {
  if (stats_.empty()) return;
  RowBlock block;
  block.query_begin = query_begin_;
  block.row_count = static_cast<std::int64_t>(stats_.size());
  block.offsets = offsets_.data();
  block.keys = keys_.data();
  block.weights = weight_dtype_ == DType::kF64 ? static_cast<const void*>(weights_f64_.data()) : weights_f32_.data();
  block.weight_dtype = weight_dtype_;
  block.stats = stats_.view();
  sink_.rows(block);
  query_begin_ += block.row_count;
  offsets_.assign(1, 0);
  keys_.clear();
  weights_f32_.clear();
  weights_f64_.clear();
  stats_.clear();
}

}  // namespace ag::reference
