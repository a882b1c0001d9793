// SPDX-License-Identifier: Apache-2.0
// The rows of one task from scores to edges, in working precision T.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "../core/ordered_tasks.hpp"
#include "../core/row_block.hpp"
#include "../core/select.hpp"
#include "../exact/row.hpp"
#include "aligned_buffer.hpp"
#include "job.hpp"
#include "kept_scores.hpp"
#include "kernels.hpp"
#include "key_cache.hpp"
#include "row_ways.hpp"

namespace ag::cpu {

// Finished rows, on their way to the sink.
struct TaskResult {
  std::vector<std::int64_t> offsets;  // [rows + 1]
  std::vector<std::int32_t> keys;
  std::vector<float> weights;
  StatedColumns stats;
  SliceSums sums;  // of these rows
  RunReport report;

  void clear();
};

// Workspace of one worker; run() may be called any number of times. What a row yields depends on the row and on the
// keys that it may see, never on the task or on the rows beside it: so splits, threads and steps do not change a bit.
template <class T>
class RowTask {
 public:
  RowTask(const Job& job, Way way);
  // The rows of the span whose way is that of this task; the others stay empty in the result. A row that needs double
  // after all, which only an additive mask does and which is known only once its scores are seen, gets it for its way.
  void run(const RowSpan& span, std::span<RowPlan> plans, KeySlot& slot, const Poll& poll, TaskResult& result);

 private:
  // Rows [first, end) of the span, at most rows_per_block.
  struct Block {
    std::int64_t first = 0;
    std::int64_t end = 0;
    KeyRange keys{std::numeric_limits<std::int64_t>::max(), 0};  // union over its rows
    std::int64_t first_strip = 0;                                // strips that hold `keys`
    std::int64_t last_strip = -1;                                // -1: no row sees a key
    std::int64_t lowest_last = 0;                                // of the rows' own last strips
    bool wanted = true;                                          // false: for_all_scores passes it by
    std::uint32_t swept = 0;                                     // bits of the rows that have seen the strip at hand
  };

  // The strips that a row is shown: its own last one first, then the others.
  enum class Turn { kLast, kOthers };

  struct Row {
    RowState<T> state;
    std::int64_t head = 0;
    std::int64_t query = 0;
    KeyRange keys;  // empty when the query is bad or its given logsumexp says so
    std::int64_t last_strip = -1;
    double query_norm = 0;
    double key_norm = 0;
    double sink = 0;
    double logsumexp = 0;   // given; natural
    double rest = 0;        // of the finished row: logsumexp - ln(2) * reference
    bool unusable = false;  // bad query, or an infinite logsumexp: no edges
    bool mine = false;      // to be done in this way
  };

  void open_blocks(std::span<const RowPlan> plans, TaskResult& result);
  void open_row(const RowPlan& plan, std::int64_t r, Row& row, T* packed, TaskResult& result);
  void open_kept_scores();
  const T* keys_of_strip(std::int64_t strip);
  const T* queries_of(const Block& block) const;
  // Scores of one block against one strip, masks applied: visit(the rows that see keys of it and whose turn it is), if
  // any.
  template <class Visit>
  void scores_of_strip(const Block& block, std::int64_t strip, Turn turn, Visit&& visit);
  void make_scores(const Block& block, std::int64_t strip, const KeyRange& panels, T* scores);
  // From products to masked scores: those of a row that stand in its part of the strip.
  void finish_scores(const Row& row, std::int64_t strip, const KeyRange& part, const KeyRange& own, T* scores) const;
  // The strip for those rows of all blocks that are swept by pieces; Block::swept says which.
  void sweep_by_pieces(const Poll& poll, std::int64_t strip);
  void mask_scores(const Row& row, std::int64_t first_key, std::int64_t width, T* scores) const;
  // All strips of all rows: first every row's last one, then, each strip once for the whole task, in ascending order.
  template <class Visit>
  void for_all_scores(const Poll& poll, Visit&& visit);
  void settle_mass(const Poll& poll, const SweepRequest& request);
  void make_room(RowState<T>& row, std::int64_t more) const;
  // False, and nothing is written: the row needs double.
  bool finish_row(Row& row, TaskResult& result);
  double band_of(const Row& row, double maximum) const;
  // The terms of the row's denominator when all are exactly equal and that may decide something; else 0.
  std::int64_t equal_terms(const Row& row, double eps);
  void add_sums(const Poll& poll, TaskResult& result);
  double sink_logit(std::int64_t head) const;

  const Job& job_;
  const Way way_;
  const Product product_;
  const Kernels<T> kernel_;
  const std::int64_t depth_, key_depth_;  // values of a packed query, of a packed key
  SweepRequest base_request_;
  bool has_pieces_ = false;  // whether rows that see a whole strip are swept by pieces (RunningSweep)

  // Of the task at hand:
  RowSpan span_;
  KeySlot* slot_ = nullptr;
  std::vector<Block> blocks_;
  std::vector<Row> rows_;     // [span_.count()]; kept between tasks for their buffers
  AlignedBuffer<T> queries_;  // [blocks][D][rows_per_block], scaled
  AlignedBuffer<T> scores_;   // [rows_per_block][kStripKeys], of strips that are not kept
  KeptScores<T> kept_;
  bool all_made_ = false;  // every score was made once: what is kept is masked, too
  RunningSweep<T> running_{};
  const SweepRequest* by_pieces_ = nullptr;  // while rows are swept so
  AlignedBuffer<T> strip_;                   // kPerTask: the strip at hand
  std::int64_t strip_in_buffer_ = -1;
  std::vector<T> unpacked_;               // rows on their way into packed form
  std::vector<StripRow<T>> strips_;       // of the block and strip at hand
  std::vector<StripRow<T>> open_strips_;  // those of them whose rows are swept again
  exact::RowOracle oracle_;
  const Poll* poll_ = nullptr;
  std::vector<double> weights_;
  std::vector<RowEdge> edges_;
};

}  // namespace ag::cpu
