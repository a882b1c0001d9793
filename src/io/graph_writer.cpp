// SPDX-License-Identifier: Apache-2.0
#include "graph_writer.hpp"

#include <algorithm>

namespace ag {

void GraphWriter::set_metadata(const Metadata& metadata) {
  if (started_) fail(Status::kArgument, "{}: tokens and facts must be set before the first row is written", name_);
  metadata_ = metadata;
  query_offset_ = query_offset(metadata);
}

void GraphWriter::start_once() {
  if (finished_) fail(Status::kArgument, "{}: the file is finished; nothing can be added", name_);
  if (!started_) start();
  started_ = true;
}

void GraphWriter::begin_slice(const SliceInfo& slice, DType weight_dtype) {
  start_once();
  if (in_slice_) fail(Status::kInternal, "{}: a slice began before the last one ended", name_);
  const std::int64_t keys = slice.query_count > 0 ? slice.key_count : 0;
  const std::int64_t tokens = metadata_.tokens.count(slice.id.batch);
  if (!metadata_.tokens.empty() && tokens < keys) {
    fail(Status::kShape, "{}: there are {} tokens for {} keys of sequence {}; give one token per key", name_, tokens,
         keys, slice.id.batch);
  }
  slice_ = slice;
  next_query_ = slice.query_begin;
  in_slice_ = true;
  on_begin_slice(weight_dtype);
}

void GraphWriter::rows(const RowBlock& block) {
  if (!in_slice_ || block.query_begin != next_query_ ||
      block.row_count > slice_.query_begin + slice_.query_count - next_query_) {
    fail(Status::kInternal, "{}: rows [{}, {}) do not follow row {} of their slice", name_, block.query_begin,
         block.query_begin + block.row_count, next_query_);
  }
  next_query_ += block.row_count;
  on_rows(block);
}

void GraphWriter::end_slice(const SliceSums& sums) {
  if (!in_slice_ || next_query_ != slice_.query_begin + slice_.query_count) {
    fail(Status::kInternal, "{}: a slice of {} rows ended at row {}", name_, slice_.query_count,
         next_query_ - slice_.query_begin);
  }
  in_slice_ = false;
  on_end_slice(sums);
}

void GraphWriter::finish(const RunReport& report) {
  start_once();
  if (in_slice_) fail(Status::kInternal, "{}: finished within a slice", name_);
  on_finish(report);
  finished_ = true;
}

}  // namespace ag
