// SPDX-License-Identifier: Apache-2.0
#include "certifying_sink.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ag::exact {
namespace {

// No backend answers from single precision with a wider one; a row whose band is wider is decided key by key.
constexpr double kWidestBand = 1.0 / 64;
// How much lower than the threshold the backend's is, in nats: the widest band, and room for weights in float.
constexpr double kRelaxed = kWidestBand + 1e-4;
// What a weight in float may be off by beside the band, relative.
constexpr double kFloatRounding = 0x1p-20;
// Below it a float is subnormal, or soon.
constexpr double kTinyWeight = 1e-35;

constexpr std::int64_t kBufferedRows = 1 << 14;
constexpr std::size_t kBufferedEdges = std::size_t{1} << 18;
// Starting threads costs as much as a few rows.
constexpr std::size_t kRowsPerThread = 4;

std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

void require_certifiable(const Problem& problem) {
  const Selection& s = problem.selection;
  if (s.top_k > 0 || s.mass > 0) {
    fail(Status::kUnsupported,
         "decision certified decides thresholds, not {}; leave {} out, or take decision fast, which reports its band",
         s.top_k > 0 ? "top_k" : "mass", s.top_k > 0 ? "top_k" : "mass");
  }
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
  out.selection.threshold *= std::exp(-kRelaxed);
  return out;
}

CertifyingSink::CertifyingSink(const Problem& problem, int threads, RowSink& next, Control& control)
    : p_(problem), threads_(std::max(threads, 1)), next_(next), control_(control), judges_(idx(threads_)) {}

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

void CertifyingSink::rows(const RowBlock& block) {
  const double threshold = p_.selection.threshold;
  const auto* weights = static_cast<const float*>(block.weights);
  for (std::int64_t r = 0; r < block.row_count; ++r) {
    RowStats stats = block.stats[r];
    const std::int64_t begin = block.offsets[r], end = block.offsets[r + 1];
    OpenRow open;
    open.row = static_cast<std::int64_t>(stats_.size());
    double kept = 0;
    bool dropped = false;
    if (threshold > 0 && stats.max_key >= 0) {
      const double band = row_band(block.query_begin + r, stats);
      open.whole = !(band <= kWidestBand);
      const double high = threshold * std::exp(band + kFloatRounding),
                   low = threshold * std::exp(-band - kFloatRounding);
      for (std::int64_t e = begin; e < end; ++e) {
        const double weight = static_cast<double>(weights[e]);
        const bool sure = weight > kTinyWeight || threshold > 2 * kTinyWeight;
        if (!open.whole && sure && weight < low) {
          dropped = true;
          continue;
        }
        if (!open.whole && !(sure && weight > high)) open.edges.push_back(static_cast<std::int64_t>(keys_.size()));
        kept += weight;
        keys_.push_back(block.keys[e]);
        weights_.push_back(weights[e]);
      }
    } else {
      keys_.insert(keys_.end(), block.keys + begin, block.keys + end);
      weights_.insert(weights_.end(), weights + begin, weights + end);
    }
    if (dropped) stats.kept_mass = kept;
    offsets_.push_back(static_cast<std::int64_t>(keys_.size()));
    stats_.push_back(stats);
    if (open.whole || !open.edges.empty()) open_.push_back(std::move(open));
  }
  if (static_cast<std::int64_t>(stats_.size()) >= kBufferedRows || keys_.size() >= kBufferedEdges) flush();
}

void CertifyingSink::end_slice(const SliceSums& sums) {
  flush();
  next_.end_slice(sums);
}

void CertifyingSink::decide(OpenRow& open, RowJudge& judge, const Poll& poll) const {
  judge.open(slice_.id.batch, slice_.id.head, first_query_ + open.row, poll);
  if (!open.whole) {
    std::vector<std::int32_t> asked;
    for (const std::int64_t e : open.edges) asked.push_back(keys_[idx(e)]);
    open.unresolved = judge.decide(asked, open.is_edge);
    return;
  }
  open.unresolved = judge.decide(judge.keys(), open.is_edge);
  for (std::size_t n = 0; n < judge.keys().size(); ++n) {
    if (!open.is_edge[n]) continue;
    const std::int32_t key = judge.keys()[n];
    open.keys.push_back(key);
    open.weights.push_back(static_cast<float>(judge.weight(key)));
  }
}

void CertifyingSink::decide_all() {
  const auto count = static_cast<std::int64_t>(open_.size());
  const auto judge = [this](int worker) -> RowJudge& {
    std::unique_ptr<RowJudge>& own = judges_[static_cast<std::size_t>(worker)];
    if (!own) own = std::make_unique<RowJudge>(p_);
    return *own;
  };
  const double total = static_cast<double>(std::max<std::int64_t>(1, slice_.query_count));
  const auto fraction = [&](std::int64_t) { return std::min(1.0, static_cast<double>(rows_done_) / total); };
  const int threads = static_cast<int>(std::min<std::size_t>(idx(threads_), open_.size() / kRowsPerThread + 1));
  struct Nothing {};
  OrderedTasks<Nothing> tasks(count, threads, control_);
  tasks.run(
      [&](std::int64_t task, int worker, const Poll& poll, Nothing&) { decide(open_[idx(task)], judge(worker), poll); },
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
          pairs_decided_ += static_cast<std::int64_t>(next->is_edge.size());
        } else {
          std::size_t n = 0;
          for (std::int64_t e = begin; e < end; ++e) {
            const bool asked = n < next->edges.size() && next->edges[n] == e;
            if (asked && !next->is_edge[n++]) continue;
            keys.push_back(keys_[idx(e)]);
            weights.push_back(weights_[idx(e)]);
          }
          pairs_decided_ += static_cast<std::int64_t>(next->edges.size());
        }
        if (next->whole || keys.size() - size_before != idx(end - begin)) {
          double& kept = stats_[r].kept_mass = 0;
          for (std::size_t e = size_before; e < weights.size(); ++e) kept += static_cast<double>(weights[e]);
        }
        ++rows_redone_;
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
  next_.rows({first_query_, count, offsets_.data(), keys_.data(), weights_.data(), DType::kF32, stats_.data()});
  counts_.add_rows(stats_.data(), count);
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
