// SPDX-License-Identifier: Apache-2.0
#include "row_task.hpp"

#include <algorithm>
#include <cmath>

#include "../core/numbers.hpp"
#include "../core/select.hpp"
#include "band.hpp"
#include "pairs.hpp"

namespace ag::cpu {
namespace {

constexpr double kLargestBias = 1e37;

}  // namespace

void TaskResult::clear() {
  offsets.assign(1, 0);
  keys.clear();
  weights.clear();
  stats.clear();
  sums = {};
  report = {};
}

template <class T>
RowTask<T>::RowTask(const Job& job, Way way)
    : job_(job),
      way_(way),
      product_(way == Way::kPairs ? job.plan.product : Product::kFloat),
      kernel_(product_kernels<T>(product_, job.problem.k.dtype, job.problem.kept != nullptr)),
      depth_(kernel_.depth(job.problem.head_dim())),
      key_depth_(kernel_.key_depth(job.problem.head_dim())),
      base_request_{.sum = !job.problem.logsumexp || job.problem.stats.entropy,
                    .own_cut = !job.problem.logsumexp,
                    .entropy = job.problem.stats.entropy,
                    .log2_cut = job.log2_cut()},
      oracle_(job.problem, [this] { (*poll_)(); }) {
  const Selection& selection = job.problem.selection;
  base_request_.top_k = selection.top_k;
  // With a threshold or top-k, few keys are left for mass to choose from; a given logsumexp is of keys unknown.
  if (selection.threshold == 0 && selection.top_k == 0 && !job.problem.logsumexp) base_request_.mass = selection.mass;
  scores_.reserve(kernel_.rows_per_block * kStripKeys<T>);
  const Problem& p = job.problem;
  has_pieces_ = kernel_.score_under_sweep != nullptr && kernel_.sweep_rows != nullptr && base_request_.sum &&
                base_request_.own_cut && !base_request_.entropy && !base_request_.selects() &&
                std::isfinite(base_request_.log2_cut) && p.softcap == 0 && !p.mask.tensor;
}

template <class T>
void RowTask<T>::run(const RowSpan& span, std::span<RowPlan> plans, KeySlot& slot, const Poll& poll,
                     TaskResult& result) {
  result.clear();
  span_ = span;
  slot_ = &slot;
  poll_ = &poll;
  strip_in_buffer_ = -1;
  open_blocks(plans, result);
  open_kept_scores();
  const std::span<Row> rows(rows_.data(), plans.size());

  SweepRequest request = base_request_;
  request.log2_cut -= 2 * kLog2E * kWidestBand;  // room for what rounding may do on either side of the cut
  // Of the task's one head: where mass meets a sink, heads go apart.
  if (request.mass > 0 && rows.front().sink > -kInfinity) request.log2_sink = rows.front().sink * kLog2E;
  const auto sweep = [&](std::span<const StripRow<T>> strips) {
    for (const StripRow<T>& strip : strips) make_room(*strip.state, strip.width);
    kernel_.sweep(strips.data(), static_cast<std::int64_t>(strips.size()), request);
  };
  by_pieces_ = has_pieces_ ? &request : nullptr;
  for_all_scores(poll, sweep);
  by_pieces_ = nullptr;
  all_made_ = true;
  if (request.mass > 0) settle_mass(poll, request);
  if (request.selects()) {
    for (Row& row : rows) {
      poll();
      if (row.state.max_key >= 0) kernel_.tighten(row.state, request, true);
    }
  }

  for (std::size_t r = 0; r < rows.size(); ++r) {
    poll();  // a row's answer may be all of its keys, to be ordered
    if (!rows[r].mine || !finish_row(rows[r], result)) {
      if (rows[r].mine) plans[r].way = Way::kDouble;
      rows[r].mine = false;
      result.stats.push_back({});
    }
    result.offsets.push_back(static_cast<std::int64_t>(result.keys.size()));
  }
  if (job_.problem.stats.columns || job_.problem.stats.distances) add_sums(poll, result);
}

// Mass raises a row's cut by an estimate. Where it was too high, all scores of the row are made again, and held against
// a cut that needs no estimate.
template <class T>
void RowTask<T>::settle_mass(const Poll& poll, const SweepRequest& request) {
  const Problem& p = job_.problem;
  bool all_settled = true;
  const std::span<Row> rows(rows_.data(), idx(span_.count()));
  for (Row& own : rows) {
    RowState<T>& row = own.state;
    if (row.max_key < 0) continue;
    poll();
    row.settled = !row.guessed || kernel_.holds_mass(row, request);
    if (row.settled) continue;
    all_settled = false;
    row.candidates.clear();
    row.cut = std::numeric_limits<T>::lowest();
    if (own.sink == -kInfinity) {  // otherwise the mass may be out of reach, and every key counts
      const double log2_cut = std::log2(mass_cut(p.selection.mass, row.keys)) - 2 * kLog2E * kWidestBand;
      row.cut = static_cast<T>(static_cast<double>(row.reference) + std::log2(row.sum) + log2_cut);
    }
  }
  if (!all_settled) {
    for (Block& block : blocks_) {
      block.wanted = std::any_of(rows.begin() + block.first, rows.begin() + block.end,
                                 [](const Row& row) { return row.state.max_key >= 0 && !row.state.settled; });
    }
    SweepRequest again;
    again.sum = false;
    for_all_scores(poll, [&](std::span<const StripRow<T>> strips) {
      open_strips_.clear();
      for (const StripRow<T>& strip : strips) {
        if (strip.state->settled || strip.state->max_key < 0) continue;
        make_room(*strip.state, strip.width);
        open_strips_.push_back(strip);
      }
      kernel_.sweep(open_strips_.data(), static_cast<std::int64_t>(open_strips_.size()), again);
    });
    for (Block& block : blocks_) block.wanted = true;  // sums over queries may follow
  }
}

template <class T>
double RowTask<T>::sink_logit(std::int64_t head) const {
  const Problem& p = job_.problem;
  if (!p.sinks) return -kInfinity;
  const double logit = load_double(p.sinks.dtype, p.sinks.at(slot_->group->batch, head));
  if (std::isnan(logit) || logit == kInfinity) {
    fail(Status::kNonfinite, "sinks holds {} at batch {}, head {}; a sink is finite or -inf", logit,
         slot_->group->batch, head);
  }
  return logit;
}

template <class T>
void RowTask<T>::open_blocks(std::span<const RowPlan> plans, TaskResult& result) {
  const auto count = static_cast<std::int64_t>(plans.size());
  const std::int64_t query_size = kernel_.rows_per_block * depth_;
  const std::int64_t block_count = (count - 1) / kernel_.rows_per_block + 1;
  queries_.reserve(block_count * query_size);
  rows_.resize(std::max(rows_.size(), plans.size()));
  blocks_.clear();
  for (std::int64_t n = 0; n < block_count; ++n) {
    Block block;
    block.first = n * kernel_.rows_per_block;
    block.end = std::min(block.first + kernel_.rows_per_block, count);
    block.lowest_last = std::numeric_limits<std::int64_t>::max();
    T* packed = queries_.data() + n * query_size;
    std::fill_n(packed, query_size, T{0});
    for (std::int64_t r = block.first; r < block.end; ++r) {
      Row& row = rows_[idx(r)];
      open_row(plans[idx(r)], r, row, packed, result);
      if (row.keys.size() == 0) continue;
      row.last_strip = (row.keys.end - 1) / kStripKeys<T>;
      block.keys = {std::min(block.keys.begin, row.keys.begin), std::max(block.keys.end, row.keys.end)};
      block.last_strip = std::max(block.last_strip, row.last_strip);
      block.lowest_last = std::min(block.lowest_last, row.last_strip);
    }
    block.first_strip = block.keys.begin / kStripKeys<T>;
    blocks_.push_back(block);
  }
}

template <class T>
void RowTask<T>::open_row(const RowPlan& plan, std::int64_t r, Row& row, T* packed, TaskResult& result) {
  const Problem& p = job_.problem;
  const std::int64_t batch = slot_->group->batch;
  Candidates<T> candidates = std::move(row.state.candidates);
  candidates.clear();
  row = Row();
  row.state.candidates = std::move(candidates);
  row.head = span_.head(r);
  row.query = span_.query(r);
  row.sink = sink_logit(row.head);
  row.mine = plan.way == way_;
  if (!row.mine) return;
  if (std::isnan(plan.query_norm)) {
    if (p.nonfinite == Nonfinite::kError) fail_nonfinite(p.q, "q", batch, row.head, row.query);
    ++result.report.skipped_nonfinite;
    row.unusable = true;
    return;
  }
  row.keys = p.mask.range(batch, row.query, p.keys());
  row.state.keys = row.keys.size();
  row.query_norm = plan.query_norm;
  row.key_norm = plan.key_norm;
  unpacked_.resize(std::max(unpacked_.size(), idx(p.head_dim())));
  kernel_.unpack_row(p.q.at(batch, row.head, row.query), p.q.dtype, p.q.strides[3], p.head_dim(), unpacked_.data());
  if (!kernel_.scales_scores) {
    const double factor = job_.query_factor();
    for (std::int64_t d = 0; d < p.head_dim(); ++d)
      unpacked_[idx(d)] = static_cast<T>(static_cast<double>(unpacked_[idx(d)]) * factor);
  }
  kernel_.pack_query(unpacked_.data(), p.head_dim(), r % kernel_.rows_per_block, packed);
  if (p.logsumexp) {
    const double stored = load_double(p.logsumexp.dtype, p.logsumexp.at(batch, row.head, row.query));
    if (std::isnan(stored)) {
      fail(Status::kNonfinite, "lse holds NaN at batch {}, head {}, query {}; a logsumexp is a number", batch, row.head,
           row.query);
    }
    row.logsumexp = stored * p.logsumexp_unit;
    if (std::isinf(row.logsumexp)) {
      row.unusable = true;
      row.keys = {};
      return;
    }
    const double cut = row.logsumexp * kLog2E + base_request_.log2_cut - 2 * kLog2E * kWidestBand;
    if (cut > static_cast<double>(row.state.cut)) row.state.cut = static_cast<T>(cut);
  }
}

template <class T>
const T* RowTask<T>::keys_of_strip(std::int64_t strip) {
  if (job_.plan.pack != PackKeys::kPerTask || job_.problem.kept != nullptr)
    return slot_->packed<T>(product_).strip(strip, job_, *slot_->group, slot_->facts, product_, unpacked_);
  if (strip != strip_in_buffer_) {
    strip_.reserve(kStripKeys<T> * key_depth_);
    const std::int64_t count = std::min(kStripKeys<T>, slot_->facts.key_count - strip * kStripKeys<T>);
    pack_strip(job_, *slot_->group, slot_->facts, product_, strip, 0, count, strip_.data(), unpacked_);
    strip_in_buffer_ = strip;
  }
  return strip_.data();
}

template <class T>
void RowTask<T>::open_kept_scores() {
  std::int64_t begin = std::numeric_limits<std::int64_t>::max(), end = 0;
  for (const Block& block : blocks_) {
    begin = std::min(begin, block.first_strip);
    end = std::max(end, block.last_strip + 1);
  }
  // Rows that are swept by pieces leave no scores behind.
  const std::int64_t bytes = has_pieces_ ? 0 : job_.plan.kept_score_bytes;
  kept_.open(static_cast<std::int64_t>(blocks_.size()), begin, end, kernel_.rows_per_block * kStripKeys<T>,
             bytes / static_cast<std::int64_t>(sizeof(T)));
  all_made_ = false;
}

template <class T>
template <class Visit>
void RowTask<T>::scores_of_strip(const Block& block, std::int64_t strip, Turn turn, Visit&& visit) {
  const std::int64_t panel = kernel_.panel_keys;
  const std::int64_t base = strip * kStripKeys<T>;
  const KeyRange panels{std::max<std::int64_t>(0, block.keys.begin - base) / panel,
                        (std::min(block.keys.end - base, kStripKeys<T>) + panel - 1) / panel};
  const auto keys_of = [&](const Row& row) {
    return KeyRange{std::max(row.keys.begin - base, panels.begin * panel),
                    std::min(row.keys.end - base, panels.end * panel)};
  };
  strips_.clear();
  for (std::int64_t r = block.first; r < block.end; ++r) {
    Row& row = rows_[idx(r)];
    if ((row.last_strip == strip) != (turn == Turn::kLast) || (block.swept >> (r - block.first) & 1) != 0) continue;
    const KeyRange own = keys_of(row);
    if (own.begin >= own.end) continue;
    // Whole panels around the row's own keys; what sticks out is masked.
    const std::int64_t from = own.begin / panel * panel;
    const std::int64_t to = (own.end + panel - 1) / panel * panel;
    strips_.push_back({nullptr, to - from, base + from, r, &row.state});
  }
  if (strips_.empty()) return;

  const std::int64_t n = block.first / kernel_.rows_per_block;
  T* scores = kept_.find(n, strip);
  const bool made = scores != nullptr;
  if (!made && !all_made_) scores = kept_.add(n, strip);
  if (scores == nullptr) scores = scores_.data();
  if (!made) make_scores(block, strip, panels, scores);
  for (StripRow<T>& own : strips_) {
    const Row& row = rows_[idx(own.row)];
    T* const of_row = scores + (own.row - block.first) * kStripKeys<T>;
    const std::int64_t from = own.first_key - base;
    if (!made || !all_made_) finish_scores(row, strip, {from, from + own.width}, keys_of(row), of_row);
    own.scores = of_row + from;
  }
  visit(std::span<const StripRow<T>>(strips_));
}

template <class T>
void RowTask<T>::make_scores(const Block& block, std::int64_t strip, const KeyRange& panels, T* scores) {
  const Problem& p = job_.problem;
  const T* queries = queries_of(block);
  const T* keys = keys_of_strip(strip) + panels.begin * kernel_.panel_keys * key_depth_;
  T* out = scores + panels.begin * kernel_.panel_keys;
  const std::int64_t rows = block.end - block.first;
  if (rows <= kFewRows && kernel_.score_few != nullptr) {
    kernel_.score_few(queries, keys, p.head_dim(), rows, panels.size(), out);
  } else {
    const bool half = kernel_.score_half != nullptr && 2 * rows <= kernel_.rows_per_block;
    const auto score = half ? kernel_.score_half : kernel_.score_strip;
    score(queries, keys, p.head_dim(), panels.size(), static_cast<T>(job_.query_factor()), out);
  }
}

template <class T>
void RowTask<T>::finish_scores(const Row& row, std::int64_t strip, const KeyRange& part, const KeyRange& own,
                               T* scores) const {
  const Problem& p = job_.problem;
  const std::int64_t base = strip * kStripKeys<T>;
  if (p.softcap > 0) kernel_.softcap(scores + part.begin, part.size(), static_cast<T>(p.score_rule().cap2()));
  if (const double slope = p.slope(slot_->group->batch, row.head); slope != 0) {
    kernel_.alibi(scores + part.begin, part.size(), static_cast<T>(slope * kLog2E),
                  row.query + p.mask.query_offset - (base + part.begin));
  }
  std::fill(scores + part.begin, scores + own.begin, -std::numeric_limits<T>::infinity());
  std::fill(scores + own.end, scores + part.end, -std::numeric_limits<T>::infinity());
  mask_scores(row, base + own.begin, own.size(), scores + own.begin);
}

// Which rows these are, nothing but the row itself decides. The tiles are configured for all blocks at once, in which
// time no function of the caller runs (poll) and nothing throws.
template <class T>
void RowTask<T>::sweep_by_pieces(const Poll& poll, std::int64_t strip) {
  poll();
  const Problem& p = job_.problem;
  const std::int64_t base = strip * kStripKeys<T>;
  const std::vector<std::int64_t>& bad = slot_->facts.bad_keys;
  const auto first_bad = std::lower_bound(bad.begin(), bad.end(), base);
  const bool any_bad = first_bad != bad.end() && *first_bad < base + kStripKeys<T>;
  bool any = false;
  for (Block& block : blocks_) {
    block.swept = 0;
    if (any_bad || strip < block.first_strip || strip >= block.last_strip) continue;
    for (std::int64_t r = block.first; r < block.end; ++r) {
      Row& row = rows_[idx(r)];
      // A largest score, and so a reference, stands from the row's last strip.
      if (row.keys.begin > base || row.last_strip <= strip || row.state.max_key < 0) continue;
      if (p.slope(slot_->group->batch, row.head) != 0) continue;
      make_room(row.state, kStripKeys<T>);
      block.swept |= 1u << (r - block.first);
    }
    any = any || block.swept != 0;
  }
  if (!any) return;
  const T* keys = keys_of_strip(strip);
  running_.factor = kernel_.scales_scores ? static_cast<T>(job_.query_factor()) : T{1};
  kernel_.open_product();
  for (Block& block : blocks_) {
    if (block.swept == 0) continue;
    running_.rows = block.end - block.first;
    for (std::int64_t r = 0; r < running_.rows; ++r)
      running_.states[r] = (block.swept >> r & 1) != 0 ? &rows_[idx(block.first + r)].state : nullptr;
    kernel_.open_sweep(running_);
    kernel_.score_under_sweep(queries_of(block), keys, p.head_dim(), kStripKeys<T> / kPieceKeys, base, running_,
                              kernel_.sweep_rows);
    block.swept &= ~kernel_.close_sweep(running_, *by_pieces_);  // the others are swept as a whole strip
  }
  kernel_.close_product();
}

template <class T>
const T* RowTask<T>::queries_of(const Block& block) const {
  return queries_.data() + block.first * depth_;
}

template <class T>
void RowTask<T>::mask_scores(const Row& row, std::int64_t first_key, std::int64_t width, T* scores) const {
  const TensorView& mask = job_.problem.mask.tensor;
  if (mask) {
    const std::byte* element = mask.at(slot_->group->batch, row.head, row.query, first_key);
    const std::int64_t step = mask.strides[3] * static_cast<std::int64_t>(size_of(mask.dtype));
    for (std::int64_t j = 0; j < width; ++j, element += step) {
      const double bias = mask_bias(mask.dtype, element);
      if (std::isnan(bias) || bias == kInfinity) {
        fail(Status::kNonfinite, "mask holds {} at batch {}, head {}, query {}, key {}; a bias is finite or -inf", bias,
             slot_->group->batch, row.head, row.query, first_key + j);
      }
      // A finite bias must not become -inf, which masks, when T is float.
      const double step_bias = bias == -kInfinity ? bias : std::max(bias * kLog2E, -kLargestBias);
      scores[j] += static_cast<T>(step_bias);
    }
  }
  const std::vector<std::int64_t>& bad = slot_->facts.bad_keys;
  for (auto it = std::lower_bound(bad.begin(), bad.end(), first_key); it != bad.end() && *it < first_key + width;
       ++it) {
    scores[*it - first_key] = -std::numeric_limits<T>::infinity();
  }
}

template <class T>
template <class Visit>
void RowTask<T>::for_all_scores(const Poll& poll, Visit&& visit) {
  // Recent keys and, next, the first ones tend to be heavy: once they are in the sum, the cut is high and candidates
  // are few. A block whose rows end in different strips makes the scores of the lower one twice.
  std::int64_t begin = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = 0;
  for (const Block& block : blocks_) {
    if (block.last_strip < 0 || !block.wanted) continue;
    for (std::int64_t strip = block.last_strip; strip >= block.lowest_last; --strip) {
      poll();
      scores_of_strip(block, strip, Turn::kLast, visit);
    }
    begin = std::min(begin, block.first_strip);
    end = std::max(end, block.last_strip);
  }
  for (std::int64_t strip = begin; strip < end; ++strip) {
    if (by_pieces_ != nullptr) sweep_by_pieces(poll, strip);
    for (Block& block : blocks_) {
      if (!block.wanted || strip < block.first_strip || strip >= block.last_strip) continue;
      poll();  // a sweep may look at all candidates of a block's rows
      scores_of_strip(block, strip, Turn::kOthers, visit);
      block.swept = 0;
    }
  }
}

template <class T>
void RowTask<T>::make_room(RowState<T>& row, std::int64_t more) const {
  Candidates<T>& candidates = row.candidates;
  if (candidates.has_room(more)) return;
  const std::int64_t top_k = job_.problem.selection.top_k;
  if (top_k > 0 && candidates.size() > top_k) row.cut = std::max(row.cut, candidates.kth_largest(top_k));
  candidates.compact(row.cut);
  // Grown when half of it is alive, so that compacting costs a constant per candidate.
  candidates.grow(2 * candidates.size() + 2 * std::max(more, kStripKeys<T>));
}

template <class T>
void RowTask<T>::add_sums(const Poll& poll, TaskResult& result) {
  const Problem& p = job_.problem;
  SliceSums& sums = result.sums;
  sums = empty_sums(p, p.keys());
  for_all_scores(poll, [&](std::span<const StripRow<T>> strips) {
    for (const StripRow<T>& strip : strips) {
      const Row& row = rows_[idx(strip.row)];
      const RowState<T>& state = *strip.state;
      if (!row.mine || state.max_key < 0) continue;  // every key is masked
      const std::int64_t distance = row.query + p.mask.query_offset - strip.first_key;
      kernel_.add_masses(strip.scores, std::min(strip.width, p.keys() - strip.first_key), state.reference,
                         static_cast<T>(row.rest * kLog2E),
                         p.stats.columns ? sums.received.data() + strip.first_key : nullptr,
                         p.stats.distances ? sums.distances.data() + (distance - sums.distance_begin) : nullptr);
    }
  });
}

template class RowTask<float>;
template class RowTask<double>;

}  // namespace ag::cpu
