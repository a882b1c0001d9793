// SPDX-License-Identifier: Apache-2.0
// The rows of one task from scores to edges, in working precision T.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "../core/ordered_tasks.hpp"
#include "../core/row_block.hpp"
#include "../core/select.hpp"
#include "../exact/row.hpp"
#include "aligned_buffer.hpp"
#include "job.hpp"
#include "kernels.hpp"
#include "key_cache.hpp"

namespace ag::cpu {

// Finished rows, on their way to the sink.
struct TaskResult {
  std::vector<std::int64_t> offsets;  // [rows + 1]
  std::vector<std::int32_t> keys;
  std::vector<float> weights;
  std::vector<RowStats> stats;
  SliceSums sums;  // of these rows
  RunReport report;

  void clear();
};

// Rows [begin, end) of one query head.
struct RowSpan {
  std::int64_t head = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// Thrown by RowTask<float>::run when an additive mask makes scores so large that float cannot hold the band; known only
// once they are seen.
struct NeedsDouble {};

// Workspace of one worker; run() may be called any number of times. What a row yields depends on the row and on the
// block of rows_per_block global rows that it stands in, never on the task: so splits and threads do not change a bit.
template <class T>
class RowTask {
 public:
  // The product of `product`; T == double has that of the instruction set only.
  RowTask(const Job& job, PackKeys pack, Product product);
  void run(const RowSpan& span, KeySlot& slot, const Poll& poll, TaskResult& result);

 private:
  // Rows [first_row, first_row + rows_per_block), of which the span may want some.
  struct Block {
    std::int64_t first_row = 0;
    KeyRange keys;                 // union over the block's rows, wanted or not
    std::int64_t first_strip = 0;  // strips that hold `keys`; none when last_strip < first_strip
    std::int64_t last_strip = -1;
    bool wanted = true;  // false: for_all_scores passes it by
  };

  struct Row {
    RowState<T> state;
    KeyRange keys;           // empty when the query is bad or its given logsumexp says so
    double score_bound = 0;  // |scale| |q| max |k|
    double query_norm = 0;
    double logsumexp = 0;   // given; natural
    double rest = 0;        // of the finished row: logsumexp - ln(2) * reference
    bool unusable = false;  // bad query, or an infinite logsumexp: no edges
  };

  void open_blocks(const RowSpan& span, TaskResult& result);
  void open_row(const RowSpan& span, std::int64_t i, Row& row, std::int64_t place, T* packed, TaskResult& result);
  const T* keys_of_strip(std::int64_t strip);
  // Scores of one block against one strip, masks applied: visit(the rows wanted that see keys of it), if any.
  template <class Visit>
  void scores_of_strip(const Block& block, std::int64_t strip, Visit&& visit);
  void mask_scores(std::int64_t i, std::int64_t first_key, std::int64_t width, T* scores) const;
  // All strips of all blocks, each strip once for the whole task: first every block's last one, then in ascending
  // order.
  template <class Visit>
  void for_all_scores(const Poll& poll, Visit&& visit);
  void settle_mass(const Poll& poll, const SweepRequest& request);
  void make_room(RowState<T>& row, std::int64_t more) const;
  void finish_row(std::int64_t i, Row& row, TaskResult& result);
  // The terms of the row's denominator when all are exactly equal and that may decide something; else 0.
  std::int64_t equal_terms(std::int64_t i, const Row& row, double eps);
  void add_sums(const Poll& poll, TaskResult& result);
  double sink_logit() const;

  const Job& job_;
  const PackKeys pack_;
  const Kernels<T> kernel_;
  const std::int64_t depth_;  // values of a packed row
  SweepRequest base_request_;

  // Of the task at hand:
  RowSpan span_;
  KeySlot* slot_ = nullptr;
  double sink_ = 0;
  std::vector<Block> blocks_;
  std::vector<Row> rows_;     // [end - begin]; kept between tasks for their buffers
  AlignedBuffer<T> queries_;  // [blocks][D][rows_per_block], scaled
  AlignedBuffer<T> scores_;   // [rows_per_block][kStripKeys]
  AlignedBuffer<T> strip_;    // kPerTask: the strip at hand
  std::int64_t strip_in_buffer_ = -1;
  std::vector<T> unpacked_;               // rows on their way into packed form
  std::vector<StripRow<T>> strips_;       // of the block and strip at hand
  std::vector<StripRow<T>> open_strips_;  // those of them whose rows are swept again
  RowNorm row_norm_;
  exact::RowOracle oracle_;
  const Poll* poll_ = nullptr;
  std::vector<double> weights_;
  std::vector<RowEdge> edges_;
};

}  // namespace ag::cpu
