// SPDX-License-Identifier: Apache-2.0
#include "certifying_sink.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "../core/numbers.hpp"
#include "band.hpp"

namespace ag::exact {
namespace {

constexpr std::int64_t kBufferedRows = 1 << 14;
constexpr std::size_t kBufferedEdges = std::size_t{1} << 18;
// Starting threads costs as much as a few rows.
constexpr std::size_t kRowsPerThread = 4;
constexpr std::int64_t kRowsPerTask = 16;

using Weights = std::vector<float>::const_iterator;
double sum_of(Weights begin, Weights end) {
  return std::accumulate(begin, end, 0.0, [](double sum, float weight) { return sum + static_cast<double>(weight); });
}

}  // namespace

void require_certifiable(const Problem& problem) {
  for (const TensorView* view : {&problem.q, &problem.k, &problem.mask.tensor, &problem.sinks, &problem.logsumexp}) {
    if (*view && view->device >= 0) {
      fail(Status::kUnsupported,
           "decision certified reads its input on the host; an input is in the memory of CUDA device {}: copy it, or "
           "take decision fast",
           view->device);
    }
  }
}

Problem relaxed(const Problem& problem) {
  Problem out = problem;
  out.selection = relaxed(problem.selection, static_cast<bool>(problem.logsumexp));
  return out;
}

CertifyingSink::CertifyingSink(const Problem& problem, int threads, RowSink& next, Control& control)
    : p_(problem),
      selects_(problem.selection.top_k > 0 || problem.selection.mass > 0),
      threads_(std::max(threads, 1)),
      next_(next),
      control_(control),
      workers_(idx(threads_)) {}

void CertifyingSink::begin_slice(const SliceInfo& slice, DType weight_dtype) {
  slice_ = slice;
  key_norm_ = -1;
  first_query_ = slice.query_begin;
  next_.begin_slice(slice, weight_dtype);
}

// The band that the backend states for the row. One that states none keeps within kWidestBand, unless scores are so
// large that it works in double and even that cannot hold it.
double CertifyingSink::row_band(std::int64_t query, const RowStats& stats) {
  if (!std::isnan(stats.eps)) return stats.eps;
  const auto norm = [](const TensorView& t, std::int64_t b, std::int64_t h, std::int64_t n) {
    double length = 0;
    for (std::int64_t d = 0; d < t.shape[3]; ++d) length = std::hypot(length, load_double(t.dtype, t.at(b, h, n, d)));
    return std::isfinite(length) ? length : 0.0;
  };
  if (key_norm_ < 0) {
    key_norm_ = 0;
    const std::int64_t key_head = p_.key_head_of(slice_.id.head);
    for (std::int64_t j = 0; j < p_.mask.key_count(slice_.id.batch, p_.keys()); ++j) {
      if (j % 1024 == 0) control_.poll(0);
      key_norm_ = std::max(key_norm_, norm(p_.k, slice_.id.batch, key_head, j));
    }
  }
  const double bound =
      std::abs(p_.scale) * norm(p_.q, slice_.id.batch, slice_.id.head, query) * key_norm_ + std::abs(stats.maximum);
  const double in_double = 0x1p-50 * static_cast<double>(p_.head_dim() + 16) * bound;
  return in_double < kWidestBand ? kWidestBand : std::numeric_limits<double>::infinity();
}

void CertifyingSink::take(const RowBlock& block, std::int64_t begin, std::int64_t end) {
  const auto* weights = static_cast<const float*>(block.weights);
  keys_.insert(keys_.end(), block.keys + begin, block.keys + end);
  weights_.insert(weights_.end(), weights + begin, weights + end);
}

// Pairs near the threshold are to be decided; lighter ones are dropped.
void CertifyingSink::take_by_threshold(const RowBlock& block, std::int64_t begin, std::int64_t end, OpenRow& open) {
  const double threshold = p_.selection.threshold;
  open.whole = !(open.band <= kWidestBand);
  if (open.whole) return;
  const double high = threshold * std::exp(open.band + kFloatRounding),
               low = threshold * std::exp(-open.band - kFloatRounding);
  for (std::int64_t e = begin; e < end; ++e) {
    const double weight = block.weight(e);
    const bool sure = weight > kTinyWeight || threshold > 2 * kTinyWeight;
    if (sure && weight < low) continue;
    if (!(sure && weight > high)) open.edges.push_back(static_cast<std::int64_t>(keys_.size()));
    take(block, e, e + 1);
  }
}

void CertifyingSink::rows(const RowBlock& block) {
  for (std::int64_t r = 0; r < block.row_count; ++r) {
    RowStats stats = block.stats[r];
    const std::int64_t begin = block.offsets[r], end = block.offsets[r + 1];
    const std::size_t first = keys_.size();
    OpenRow open;
    open.row = static_cast<std::int64_t>(stats_.size());
    const bool has_cut = selects_ || p_.selection.threshold > 0;
    if (has_cut && stats.max_key >= 0) open.band = row_band(block.query_begin + r, stats);
    if (selects_ || !has_cut || stats.max_key < 0) {
      open.by_prefix = selects_ && stats.max_key >= 0;
      take(block, begin, end);
    } else {
      take_by_threshold(block, begin, end, open);
    }
    if (static_cast<std::int64_t>(keys_.size() - first) != end - begin)
      stats.kept_mass = sum_of(weights_.begin() + static_cast<std::ptrdiff_t>(first), weights_.end());
    offsets_.push_back(static_cast<std::int64_t>(keys_.size()));
    stats_.push_back(stats);
    if (open.by_prefix || open.whole || !open.edges.empty()) open_.push_back(std::move(open));
    if (static_cast<std::int64_t>(stats_.size()) >= kBufferedRows || keys_.size() >= kBufferedEdges) flush();
  }
}

void CertifyingSink::end_slice(const SliceSums& sums) {
  flush();
  next_.end_slice(sums);
}

// What top-k and mass leave for certain, and the order of the keys around the end of that. False: it takes the row.
bool CertifyingSink::decide_by_prefix(OpenRow& open, Worker& worker, const Poll& poll) const {
  const std::int64_t begin = offsets_[idx(open.row)], end = offsets_[idx(open.row + 1)];
  const PrefixAnswer& found = worker.prefixes.find(weights_.data() + begin, idx(end - begin), open.band);
  if (found.prefix == Prefix::kRow) return false;
  open.is_edge.assign(idx(end - begin), 0);
  for (const std::size_t n : found.chosen) open.is_edge[n] = 1;
  if (found.prefix == Prefix::kSure) return true;
  std::vector<std::int32_t> asked;
  std::vector<char> chosen;
  for (const std::size_t n : found.doubtful) asked.push_back(keys_[idx(begin) + n]);
  worker.judge.open(slice_.id.batch, slice_.id.head, first_query_ + open.row, poll);
  worker.judge.heaviest_of(asked, found.count, chosen);
  for (std::size_t n = 0; n < asked.size(); ++n) open.is_edge[found.doubtful[n]] = chosen[n];
  open.pairs = static_cast<std::int64_t>(asked.size());
  return true;
}

void CertifyingSink::decide(OpenRow& open, Worker& worker, const Poll& poll) const {
  if (open.by_prefix) {
    poll();
    if (decide_by_prefix(open, worker, poll)) return;
    open.whole = true;
  }
  RowJudge& judge = worker.judge;
  judge.open(slice_.id.batch, slice_.id.head, first_query_ + open.row, poll);
  if (!open.whole) {
    std::vector<std::int32_t> asked;
    for (const std::int64_t e : open.edges) asked.push_back(keys_[idx(e)]);
    open.unresolved = judge.decide(asked, open.is_edge);
    open.pairs = static_cast<std::int64_t>(asked.size());
    return;
  }
  open.unresolved = judge.select(open.keys);
  open.pairs = static_cast<std::int64_t>(judge.keys().size());
  for (const std::int32_t key : open.keys) open.weights.push_back(static_cast<float>(judge.weight(key)));
}

void CertifyingSink::decide_all() {
  // A row that its weights decide takes a microsecond, which is what a task costs.
  const std::int64_t rows = selects_ ? kRowsPerTask : 1, all = static_cast<std::int64_t>(open_.size());
  const std::int64_t count = (all + rows - 1) / rows;
  const auto worker_of = [this](int n) -> Worker& {
    std::unique_ptr<Worker>& own = workers_[static_cast<std::size_t>(n)];
    if (!own) own = std::make_unique<Worker>(p_);
    return *own;
  };
  const double total = static_cast<double>(std::max<std::int64_t>(1, slice_.query_count));
  const auto fraction = [&](std::int64_t) { return std::min(1.0, static_cast<double>(rows_done_) / total); };
  const int threads = static_cast<int>(std::min<std::size_t>(idx(threads_), open_.size() / kRowsPerThread + 1));
  struct Nothing {};
  OrderedTasks<Nothing> tasks(count, threads, control_);
  tasks.run(
      [&](std::int64_t task, int n, const Poll& poll, Nothing&) {
        Worker& worker = worker_of(n);
        for (std::int64_t r = task * rows; r < std::min(all, (task + 1) * rows); ++r)
          decide(open_[idx(r)], worker, poll);
      },
      [](std::int64_t, Nothing&) {}, fraction);
}

void CertifyingSink::flush() {
  if (stats_.empty()) return;
  if (!open_.empty()) {
    decide_all();
    // Rows without open pairs move up as they are, the others without what turned out to be no edge.
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int32_t> keys;
    std::vector<float> weights;
    offsets.reserve(offsets_.size());
    keys.reserve(keys_.size());
    weights.reserve(weights_.size());
    auto next = open_.begin();
    for (std::size_t r = 0; r < stats_.size(); ++r) {
      const std::int64_t begin = offsets_[r], end = offsets_[r + 1];
      if (next == open_.end() || idx(next->row) != r) {
        keys.insert(keys.end(), keys_.begin() + begin, keys_.begin() + end);
        weights.insert(weights.end(), weights_.begin() + begin, weights_.begin() + end);
      } else {
        const std::size_t size_before = keys.size();
        if (next->whole) {
          keys.insert(keys.end(), next->keys.begin(), next->keys.end());
          weights.insert(weights.end(), next->weights.begin(), next->weights.end());
        } else {
          std::size_t n = 0;
          for (std::int64_t e = begin; e < end; ++e) {
            const bool asked = next->by_prefix || (n < next->edges.size() && next->edges[n] == e);
            if (asked && !next->is_edge[n++]) continue;
            keys.push_back(keys_[idx(e)]);
            weights.push_back(weights_[idx(e)]);
          }
        }
        pairs_decided_ += next->pairs;
        rows_redone_ += next->pairs > 0;
        if (next->whole || keys.size() - size_before != idx(end - begin)) {
          stats_.kept_mass[r] = sum_of(weights.begin() + static_cast<std::ptrdiff_t>(size_before), weights.end());
        }
        unresolved_ += next->unresolved;
        ++next;
      }
      offsets.push_back(static_cast<std::int64_t>(keys.size()));
    }
    offsets_ = std::move(offsets);
    keys_ = std::move(keys);
    weights_ = std::move(weights);
  }
  const auto count = static_cast<std::int64_t>(stats_.size());
  next_.rows({first_query_, count, offsets_.data(), keys_.data(), weights_.data(), DType::kF32, stats_.view()});
  counts_.add_rows(stats_.view(), count);
  rows_done_ += count;
  first_query_ += count;
  offsets_.assign(1, 0);
  keys_.clear();
  weights_.clear();
  stats_.clear();
  open_.clear();
}

RunReport CertifyingSink::report(RunReport of_backend) const {
  if (unresolved_ == 0) of_backend.eps = 0;
  of_backend.borderline = pairs_decided_;
  of_backend.rows_decided_again = rows_redone_;
  of_backend.unresolved = unresolved_;
  of_backend.kept_mass_sum = counts_.kept_mass_sum;
  return of_backend;
}

}  // namespace ag::exact
