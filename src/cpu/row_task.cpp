// SPDX-License-Identifier: Apache-2.0
#include "row_task.hpp"

#include <algorithm>
#include <cmath>

#include "../core/select.hpp"
#include "band.hpp"
#include "pairs.hpp"

namespace ag::cpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestBias = 1e37;

std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

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
RowTask<T>::RowTask(const Job& job, PackKeys pack, Product product)
    : job_(job),
      pack_(pack),
      kernel_(product_kernels<T>(product, job.problem.k.dtype)),
      depth_(kernel_.depth(job.problem.head_dim())),
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
}

template <class T>
void RowTask<T>::run(const RowSpan& span, KeySlot& slot, const Poll& poll, TaskResult& result) {
  result.clear();
  span_ = span;
  slot_ = &slot;
  poll_ = &poll;
  sink_ = sink_logit();
  strip_in_buffer_ = -1;
  open_blocks(span, result);

  SweepRequest request = base_request_;
  request.log2_cut -= 2 * kLog2E * kWidestBand;  // room for what rounding may do on either side of the cut
  if (request.mass > 0 && sink_ > -kInfinity) request.log2_sink = sink_ * kLog2E;
  const auto sweep = [&](std::span<const StripRow<T>> strips) {
    for (const StripRow<T>& strip : strips) make_room(*strip.state, strip.width);
    kernel_.sweep(strips.data(), static_cast<std::int64_t>(strips.size()), request);
  };
  for_all_scores(poll, sweep);
  if (request.mass > 0) settle_mass(poll, request);
  if (request.selects()) {
    for (std::int64_t i = span.begin; i < span.end; ++i) {
      RowState<T>& row = rows_[idx(i - span.begin)].state;
      poll();
      if (row.max_key >= 0) kernel_.tighten(row, request, true);
    }
  }

  for (std::int64_t i = span.begin; i < span.end; ++i) {
    poll();  // a row's answer may be all of its keys, to be ordered
    finish_row(i, rows_[idx(i - span.begin)], result);
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
  for (std::int64_t i = span_.begin; i < span_.end; ++i) {
    RowState<T>& row = rows_[idx(i - span_.begin)].state;
    if (row.max_key < 0) continue;
    poll();
    row.settled = !row.guessed || kernel_.holds_mass(row, request);
    if (row.settled) continue;
    all_settled = false;
    row.candidates.clear();
    row.cut = std::numeric_limits<T>::lowest();
    if (sink_ == -kInfinity) {  // otherwise the mass may be out of reach, and every key counts
      const double log2_cut = std::log2(mass_cut(p.selection.mass, row.keys)) - 2 * kLog2E * kWidestBand;
      row.cut = static_cast<T>(static_cast<double>(row.reference) + std::log2(row.sum) + log2_cut);
    }
  }
  if (!all_settled) {
    for (Block& block : blocks_) {
      const std::int64_t end = std::min(block.first_row + kernel_.rows_per_block, span_.end);
      block.wanted = false;
      for (std::int64_t i = std::max(block.first_row, span_.begin); i < end; ++i) {
        const RowState<T>& row = rows_[idx(i - span_.begin)].state;
        block.wanted = block.wanted || (row.max_key >= 0 && !row.settled);
      }
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
double RowTask<T>::sink_logit() const {
  const Problem& p = job_.problem;
  if (!p.sinks) return -kInfinity;
  const double logit = load_double(p.sinks.dtype, p.sinks.at(slot_->group->batch, span_.head));
  if (std::isnan(logit) || logit == kInfinity) {
    fail(Status::kNonfinite, "sinks holds {} at batch {}, head {}; a sink is finite or -inf", logit,
         slot_->group->batch, span_.head);
  }
  return logit;
}

template <class T>
void RowTask<T>::open_blocks(const RowSpan& span, TaskResult& result) {
  const Problem& p = job_.problem;
  const std::int64_t rows = kernel_.rows_per_block;
  const std::int64_t query_size = rows * depth_;
  const std::int64_t first_block = span.begin / rows;
  const std::int64_t block_count = (span.end - 1) / rows + 1 - first_block;
  queries_.reserve(block_count * query_size);
  rows_.resize(std::max(rows_.size(), idx(span.end - span.begin)));
  blocks_.clear();
  for (std::int64_t n = 0; n < block_count; ++n) {
    Block block;
    block.first_row = (first_block + n) * rows;
    const std::int64_t last_row = std::min(block.first_row + rows, p.queries()) - 1;
    const std::int64_t batch = slot_->group->batch;
    block.keys = {p.mask.range(batch, block.first_row, p.keys()).begin, p.mask.range(batch, last_row, p.keys()).end};
    if (block.keys.size() > 0) {
      block.first_strip = block.keys.begin / kStripKeys<T>;
      block.last_strip = (block.keys.end - 1) / kStripKeys<T>;
    }
    T* packed = queries_.data() + n * query_size;
    std::fill_n(packed, query_size, T{0});
    for (std::int64_t i = std::max(block.first_row, span.begin); i <= std::min(last_row, span.end - 1); ++i) {
      open_row(span, i, rows_[idx(i - span.begin)], i - block.first_row, packed, result);
    }
    blocks_.push_back(block);
  }
}

template <class T>
void RowTask<T>::open_row(const RowSpan& span, std::int64_t i, Row& row, std::int64_t place, T* packed,
                          TaskResult& result) {
  const Problem& p = job_.problem;
  const std::int64_t batch = slot_->group->batch;
  Candidates<T> candidates = std::move(row.state.candidates);
  candidates.clear();
  row = Row();
  row.state.candidates = std::move(candidates);
  row.keys = p.mask.range(batch, i, p.keys());
  row.state.keys = row.keys.size();

  unpacked_.resize(std::max(unpacked_.size(), idx(p.head_dim())));
  kernel_.unpack_row(p.q.at(batch, span.head, i), p.q.dtype, p.q.strides[3], p.head_dim(), unpacked_.data());
  const double norm = row_norm_(p.q, batch, span.head, i);
  if (std::isnan(norm)) {
    if (p.nonfinite == Nonfinite::kError) fail_nonfinite(p.q, "q", batch, span.head, i);
    ++result.report.skipped_nonfinite;
    row.unusable = true;
    row.keys = {};
    return;
  }
  row.score_bound = std::abs(p.scale) * norm * slot_->facts.key_norm;
  row.query_norm = norm;
  if (!kernel_.scales_scores) {
    const double factor = job_.query_factor();
    for (std::int64_t d = 0; d < p.head_dim(); ++d)
      unpacked_[idx(d)] = static_cast<T>(static_cast<double>(unpacked_[idx(d)]) * factor);
  }
  kernel_.pack_query(unpacked_.data(), p.head_dim(), place, packed);
  if (p.logsumexp) {
    const double stored = load_double(p.logsumexp.dtype, p.logsumexp.at(batch, span.head, i));
    if (std::isnan(stored)) {
      fail(Status::kNonfinite, "lse holds NaN at batch {}, head {}, query {}; a logsumexp is a number", batch,
           span.head, i);
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
  if (pack_ != PackKeys::kPerTask) {
    return slot_->packed<T>().strip(strip, job_, *slot_->group, slot_->facts, unpacked_);
  }
  if (strip != strip_in_buffer_) {
    strip_.reserve(kStripKeys<T> * depth_);
    pack_strip(job_, *slot_->group, slot_->facts, strip, strip_.data(), unpacked_);
    strip_in_buffer_ = strip;
  }
  return strip_.data();
}

template <class T>
template <class Visit>
void RowTask<T>::scores_of_strip(const Block& block, std::int64_t strip, Visit&& visit) {
  const Problem& p = job_.problem;
  const std::int64_t panel = kernel_.panel_keys;
  const std::int64_t base = strip * kStripKeys<T>;
  const std::int64_t first_panel = std::max<std::int64_t>(0, block.keys.begin - base) / panel;
  const std::int64_t end_panel = (std::min(block.keys.end - base, kStripKeys<T>) + panel - 1) / panel;
  const auto block_index = (block.first_row - blocks_.front().first_row) / kernel_.rows_per_block;
  kernel_.score_strip(queries_.data() + block_index * kernel_.rows_per_block * depth_,
                      keys_of_strip(strip) + first_panel * panel * depth_, p.head_dim(), end_panel - first_panel,
                      static_cast<T>(job_.query_factor()), scores_.data() + first_panel * panel);

  strips_.clear();
  const std::int64_t first = std::max(block.first_row, span_.begin);
  const std::int64_t end = std::min(block.first_row + kernel_.rows_per_block, span_.end);
  for (std::int64_t i = first; i < end; ++i) {
    Row& row = rows_[idx(i - span_.begin)];
    const std::int64_t begin_key = std::max(row.keys.begin - base, first_panel * panel);
    const std::int64_t end_key = std::min(row.keys.end - base, end_panel * panel);
    if (begin_key >= end_key) continue;
    // Whole panels around the row's own keys; what sticks out is masked.
    T* scores = scores_.data() + (i - block.first_row) * kStripKeys<T>;
    const std::int64_t from = begin_key / panel * panel;
    const std::int64_t to = (end_key + panel - 1) / panel * panel;
    if (p.softcap > 0) kernel_.softcap(scores + from, to - from, static_cast<T>(p.softcap * kLog2E));
    std::fill(scores + from, scores + begin_key, -std::numeric_limits<T>::infinity());
    std::fill(scores + end_key, scores + to, -std::numeric_limits<T>::infinity());
    mask_scores(i, base + begin_key, end_key - begin_key, scores + begin_key);
    strips_.push_back({scores + from, to - from, base + from, i, &row.state});
  }
  if (!strips_.empty()) visit(std::span<const StripRow<T>>(strips_));
}

template <class T>
void RowTask<T>::mask_scores(std::int64_t i, std::int64_t first_key, std::int64_t width, T* scores) const {
  const TensorView& mask = job_.problem.mask.tensor;
  if (mask) {
    const std::byte* element = mask.at(slot_->group->batch, span_.head, i, first_key);
    const std::int64_t step = mask.strides[3] * static_cast<std::int64_t>(size_of(mask.dtype));
    for (std::int64_t j = 0; j < width; ++j, element += step) {
      const double bias = mask_bias(mask.dtype, element);
      if (std::isnan(bias) || bias == kInfinity) {
        fail(Status::kNonfinite, "mask holds {} at batch {}, head {}, query {}, key {}; a bias is finite or -inf", bias,
             slot_->group->batch, span_.head, i, first_key + j);
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
  // are few.
  std::int64_t begin = std::numeric_limits<std::int64_t>::max();
  std::int64_t end = 0;
  for (const Block& block : blocks_) {
    if (block.last_strip < block.first_strip || !block.wanted) continue;
    poll();
    scores_of_strip(block, block.last_strip, visit);
    begin = std::min(begin, block.first_strip);
    end = std::max(end, block.last_strip);
  }
  for (std::int64_t strip = begin; strip < end; ++strip) {
    for (const Block& block : blocks_) {
      if (!block.wanted || strip < block.first_strip || strip >= block.last_strip) continue;
      poll();  // a sweep may look at all candidates of a block's rows
      scores_of_strip(block, strip, visit);
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
  AlignedBuffer<T> weights;
  weights.reserve(kStripKeys<T>);
  for_all_scores(poll, [&](std::span<const StripRow<T>> strips) {
    for (const StripRow<T>& strip : strips) {
      const RowState<T>& state = *strip.state;
      if (state.max_key < 0) continue;  // every key is masked
      const double rest = rows_[idx(strip.query - span_.begin)].rest;
      kernel_.probabilities(strip.scores, strip.width, state.reference, static_cast<T>(rest * kLog2E), weights.data());
      const std::int64_t count = std::min(strip.width, p.keys() - strip.first_key);
      const T* w = weights.data();
      if (p.stats.columns) {
        double* received = sums.received.data() + strip.first_key;
        for (std::int64_t j = 0; j < count; ++j) received[j] += static_cast<double>(w[j]);
      }
      if (p.stats.distances) {
        const std::int64_t distance = strip.query + p.mask.query_offset - strip.first_key;
        double* mass = sums.distances.data() + (distance - sums.distance_begin);
        for (std::int64_t j = 0; j < count; ++j) mass[-j] += static_cast<double>(w[j]);
      }
    }
  });
}

template class RowTask<float>;
template class RowTask<double>;

}  // namespace ag::cpu
