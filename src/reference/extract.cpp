// SPDX-License-Identifier: Apache-2.0
// Q and K to edges, row by row: every score in double, then the softmax, then the selection.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "../core/edge_rule.hpp"
#include "../core/numbers.hpp"
#include "../core/select.hpp"
#include "../exact/row.hpp"
#include "compensated_sum.hpp"
#include "row_writer.hpp"
#include "rows.hpp"

namespace ag::reference {
namespace {

constexpr double kRoundoff = 0x1p-53;

// Beyond this bound on |scale q . k| an intermediate product could overflow.
constexpr double kScoreLimit = 1e300;

// Only a given logsumexp that belongs to other scores makes a weight that the answer cannot hold.
constexpr double kLargestWeight = std::numeric_limits<float>::max();

// Euclidean length without overflow in the squares.
double norm(std::span<const double> row) {
  double largest = 0;
  for (const double x : row) largest = std::max(largest, std::abs(x));
  if (largest == 0) return 0;
  double sum = 0;
  for (const double x : row) sum += (x / largest) * (x / largest);
  return largest * std::sqrt(sum);
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
  return sum;
}

// An allowed key of the row at hand.
struct ScoredKey {
  std::int32_t key;
  double score;
};

// The logarithm of the softmax denominator, as reference + log_sum. The two stay apart: at scores of 1e30 their sum
// could not tell one key from two equal ones.
struct Denominator {
  double reference = 0;
  double log_sum = 0;
  std::int64_t equal_terms = 0;  // > 0: all of its terms are exactly equal, so each weighs 1 / equal_terms

  double logsumexp() const { return reference + log_sum; }
  double log_weight(double score) const { return (score - reference) - log_sum; }
};

class Extraction {
 public:
  Extraction(const Problem& problem, RowSink& sink, Control& control)
      : p_(problem),
        control_(control),
        writer_(sink),
        query_(static_cast<std::size_t>(p_.head_dim())),
        oracle_(problem, [this] { control_.poll(0); }) {}

  RunReport run() {
    for (std::int64_t b = 0; b < p_.batch(); ++b) {
      std::int64_t loaded = -1;
      for (const std::int64_t h : p_.heads) {
        if (p_.key_head_of(h) != loaded && p_.query_end > p_.query_begin) {  // else nobody asks what the keys hold
          loaded = p_.key_head_of(h);
          load_keys(b, loaded);
        }
        extract_slice(b, h);
      }
    }
    return writer_.report();
  }

 private:
  // Row n of a head in double. False when it holds NaN or infinity and such rows are to be skipped.
  bool load_row(const TensorView& tensor, const char* name, std::int64_t b, std::int64_t h, std::int64_t n,
                std::span<double> row) {
    for (std::size_t d = 0; d < row.size(); ++d) {
      row[d] = load_double(tensor.dtype, tensor.at(b, h, n, d));
      if (std::isfinite(row[d])) continue;
      if (p_.nonfinite == Nonfinite::kError) {
        fail(Status::kNonfinite,
             "{} holds {} at batch {}, head {}, position {}, dimension {}; clean the input or ask to skip such "
             "positions",
             name, row[d], b, h, n, d);
      }
      ++writer_.report().skipped_nonfinite;
      return false;
    }
    return true;
  }

  // Keys at and after the batch's length do not exist: their memory is not read.
  void load_keys(std::int64_t b, std::int64_t key_head) {
    const std::int64_t count = p_.mask.key_count(b, p_.keys());
    const auto dim = static_cast<std::size_t>(p_.head_dim());
    keys_.resize(static_cast<std::size_t>(count) * dim);
    key_norms_.resize(static_cast<std::size_t>(count));
    for (std::int64_t j = 0; j < count; ++j) {
      const bool usable = load_row(p_.k, "k", b, key_head, j, key(j));
      key_norms_[static_cast<std::size_t>(j)] = usable ? norm(key(j)) : kSkipped;
    }
  }

  std::span<double> key(std::int64_t j) {
    const auto dim = static_cast<std::size_t>(p_.head_dim());
    return std::span(keys_).subspan(static_cast<std::size_t>(j) * dim, dim);
  }

  void extract_slice(std::int64_t b, std::int64_t h) {
    const std::int64_t rows = p_.query_end - p_.query_begin;
    const auto slices = static_cast<double>(p_.batch() * static_cast<std::int64_t>(p_.heads.size()));
    writer_.begin_slice({{b, p_.layer, h}, p_.query_begin, rows, p_.keys()}, DType::kF32);
    sink_logit_ = read_sink(b, h);
    if (rows > 0 && p_.logsumexp && p_.softcap == 0) check_reach(b, h);
    SumsBuilder sums(p_, p_.keys());
    for (std::int64_t i = p_.query_begin; i < p_.query_end; ++i) {
      control_.poll(
          (static_cast<double>(slices_done_) + static_cast<double>(i - p_.query_begin) / static_cast<double>(rows)) /
          slices);
      extract_row(b, h, i, sums);
    }
    writer_.end_slice(sums.sums());
    ++slices_done_;
  }

  // Of the whole head, whatever rows are asked for: a call in parts answers as one does.
  void check_reach(std::int64_t b, std::int64_t h) {
    double longest = 0;
    for (std::int64_t i = 0; i < p_.queries(); ++i) {
      for (std::size_t d = 0; d < query_.size(); ++d) query_[d] = load_double(p_.q.dtype, p_.q.at(b, h, i, d));
      const double length = norm(query_);
      if (std::isfinite(length)) longest = std::max(longest, length);
    }
    double key = 0;
    for (const double length : key_norms_) key = std::max(key, length);
    const double bound = std::abs(p_.scale) * longest * key;
    if (bound > kMostWithLogsumexp) {
      fail(Status::kRange,
           "scores of batch {}, head {} may reach {:g}, and lse is given: above {:g} double cannot tell their weights; "
           "leave lse out, or scale down the input",
           b, h, bound, kMostWithLogsumexp);
    }
  }

  double read_sink(std::int64_t b, std::int64_t h) const {
    if (!p_.sinks) return -kInfinity;
    const double logit = load_double(p_.sinks.dtype, p_.sinks.at(b, h));
    if (std::isnan(logit) || logit == kInfinity) {
      fail(Status::kNonfinite, "sinks holds {} at batch {}, head {}; a sink is finite or -inf", logit, b, h);
    }
    return logit;
  }

  // Natural logarithm. An infinite value of either sign says that the row has no keys: implementations of attention
  // write -inf or +inf there.
  double read_logsumexp(std::int64_t b, std::int64_t h, std::int64_t i) const {
    const double stored = load_double(p_.logsumexp.dtype, p_.logsumexp.at(b, h, i));
    if (std::isnan(stored)) {
      fail(Status::kNonfinite, "lse holds NaN at batch {}, head {}, query {}; a logsumexp is a number", b, h, i);
    }
    return stored * p_.logsumexp_unit;
  }

  void extract_row(std::int64_t b, std::int64_t h, std::int64_t i, SumsBuilder& sums) {
    ++writer_.report().rows_fp64;
    score_bound_ = 0;
    allowed_.clear();
    if (load_row(p_.q, "q", b, h, i, query_)) collect_scores(b, h, i);

    Denominator denominator;
    if (p_.logsumexp) {
      denominator.log_sum = read_logsumexp(b, h, i);
      if (std::isinf(denominator.log_sum)) allowed_.clear();
    }
    if (allowed_.empty()) {
      // exp(sink) is all that is left of the denominator; without a sink that is nothing.
      RowStats empty;
      if (!p_.logsumexp) empty.logsumexp = sink_logit_;
      if (p_.stats.entropy) empty.entropy = 0;
      writer_.add_row(empty, {});
      return;
    }
    RowStats stats;
    for (const ScoredKey& a : allowed_) {
      if (a.score > stats.maximum) {
        stats.maximum = a.score;
        stats.max_key = a.key;
      }
    }
    if (!p_.logsumexp) denominator = sum_up(stats.maximum);
    stats.logsumexp = denominator.logsumexp();
    stats.eps = row_eps(stats.logsumexp, std::log(p_.selection.threshold));
    denominator.equal_terms = equal_terms(b, h, i, stats);
    select_edges(b, h, i, denominator, stats, sums);
    writer_.add_row(stats, edges_);
  }

  void collect_scores(std::int64_t b, std::int64_t h, std::int64_t i) {
    const double query_norm = norm(query_);
    const KeyRange range = p_.mask.range(b, i, p_.keys());
    const ScoreRule rule = p_.score_rule();
    const double slope = p_.slope(b, h);
    for (std::int64_t j = range.begin; j < range.end; ++j) {
      const double key_norm = key_norms_[static_cast<std::size_t>(j)];
      const double mask = checked_mask_bias(p_.mask, b, h, i, j);
      if (key_norm == kSkipped || mask == -kInfinity) continue;

      const double bound = query_norm * key_norm * std::abs(p_.scale);
      const double alibi = alibi_bias(slope, i + p_.mask.query_offset, j);
      const double score = rule.score(dot(query_, key(j)), mask + alibi);
      if (query_norm * key_norm > kScoreLimit || bound > kScoreLimit || !std::isfinite(score)) {
        fail(Status::kRange,
             "the score of batch {}, head {}, query {}, key {} is beyond {:g}; scale down the input or the mask", b, h,
             i, j, kScoreLimit);
      }
      score_bound_ = std::max(score_bound_, bound + std::abs(mask) + std::abs(alibi));
      allowed_.push_back({static_cast<std::int32_t>(j), score});
    }
  }

  Denominator sum_up(double maximum) const {
    Denominator denominator;
    denominator.reference = std::max(maximum, sink_logit_);
    CompensatedSum sum;
    for (const ScoredKey& a : allowed_) sum.add(std::exp(a.score - denominator.reference));
    if (sink_logit_ > -kInfinity) sum.add(std::exp(sink_logit_ - denominator.reference));
    denominator.log_sum = std::log(sum.value());
    return denominator;
  }

  // Rounding hides whether scores are equal, so the stored inputs are asked, where all scores are nearly the same.
  std::int64_t equal_terms(std::int64_t b, std::int64_t h, std::int64_t i, const RowStats& stats) {
    if (p_.logsumexp) return 0;
    const auto near = [&](double score) { return std::abs(score - stats.maximum) <= 2 * stats.eps; };
    if (sink_logit_ > -kInfinity && !near(sink_logit_)) return 0;
    if (!std::all_of(allowed_.begin(), allowed_.end(), [&](const ScoredKey& a) { return near(a.score); })) return 0;
    oracle_.open(b, h, i);
    return oracle_.equal_terms();
  }

  void select_edges(std::int64_t b, std::int64_t h, std::int64_t i, const Denominator& denominator, RowStats& stats,
                    SumsBuilder& sums) {
    const double threshold = p_.selection.threshold;
    const double log_threshold = std::log(threshold);  // -inf when there is none
    const std::int64_t terms = denominator.equal_terms;
    const double eps = stats.eps;
    RunReport& report = writer_.report();
    report.eps = std::max(report.eps, eps);

    CompensatedSum entropy;
    edges_.clear();
    for (const auto& [key, score] : allowed_) {
      const double log_weight = denominator.log_weight(score);
      const double weight = terms > 0 ? 1.0 / static_cast<double>(terms) : std::exp(log_weight);
      if (!(weight <= kLargestWeight)) {
        fail(
            Status::kRange,
            "the weight of batch {}, head {}, query {}, key {} is exp({:g}); the given lse is not that of these scores",
            b, h, i, key, log_weight);
      }
      const double margin = edge_margin(score - denominator.reference, denominator.log_sum, log_threshold);
      if (terms == 0 && std::abs(margin) <= eps) ++report.borderline;
      if (terms > 0 ? is_uniform_row_edge(terms, threshold) : is_edge(margin)) edges_.push_back({weight, key});
      sums.add(i, key, weight);
      entropy.add(-weight * log_weight);
    }
    select_row(p_.selection, edges_);
    for (const RowEdge& edge : edges_) stats.kept_mass += edge.weight;
    if (p_.stats.entropy) {
      // Of the distribution over the keys and the sink.
      const double log_sink = denominator.log_weight(sink_logit_);
      if (sink_logit_ > -kInfinity) entropy.add(-std::exp(log_sink) * log_sink);
      stats.entropy = entropy.value();
    }
  }

  // Bound on the error of a computed ln(weight / threshold): D products and sums, then scale, softcap and mask, for the
  // score and for the logsumexp (docs/numerics.md).
  double row_eps(double logsumexp, double log_threshold) const {
    const double roundings = 2.0 * static_cast<double>(p_.head_dim() + 8);
    const double magnitude = std::abs(logsumexp) + (std::isinf(log_threshold) ? 0 : std::abs(log_threshold));
    return kRoundoff * (roundings * score_bound_ + 8 * magnitude + 16);
  }

  static constexpr double kSkipped = -1;  // in key_norms_: the key holds NaN or infinity

  const Problem& p_;
  Control& control_;
  RowWriter writer_;
  std::int64_t slices_done_ = 0;
  std::vector<double> keys_;       // of the key head at hand, [key_count(b)][D]
  std::vector<double> key_norms_;  // [key_count(b)]
  double sink_logit_ = -kInfinity;

  // Of the row at hand:
  std::vector<double> query_;  // [D]
  exact::RowOracle oracle_;
  std::vector<ScoredKey> allowed_;
  double score_bound_ = 0;  // |score| of every allowed key, and its partial sums, stay below
  std::vector<RowEdge> edges_;
};

}  // namespace

RunReport extract_rows(const Problem& problem, RowSink& sink, Control& control) {
  return Extraction(problem, sink, control).run();
}

}  // namespace ag::reference
