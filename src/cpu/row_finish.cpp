// SPDX-License-Identifier: Apache-2.0
// The last step of a row: its sum is final, its candidates become edges.
#include <algorithm>
#include <cmath>

#include "../core/edge_rule.hpp"
#include "../core/numbers.hpp"
#include "../core/select.hpp"
#include "band.hpp"
#include "pairs.hpp"
#include "row_task.hpp"

namespace ag::cpu {
namespace {

// ln(e^a + e^b)
double log_add(double a, double b) {
  const double high = std::max(a, b);
  if (std::isinf(high)) return high;
  return high + std::log1p(std::exp(std::min(a, b) - high));
}

}  // namespace

// Rounding hides whether scores are equal, so the stored inputs are asked; seldom, since all keys must be candidates of
// nearly one score, and the answer must matter.
template <class T>
std::int64_t RowTask<T>::equal_terms(const Row& row, double eps) {
  const Problem& p = job_.problem;
  const Candidates<T>& candidates = row.state.candidates;
  if (p.logsumexp) return 0;
  const T* scores = candidates.scores();
  const double spread = 2 * kLog2E * eps;
  const auto maximum = static_cast<double>(row.state.maximum);
  const bool has_sink = row.sink > -kInfinity;
  if (has_sink && !(std::abs(row.sink * kLog2E - maximum) <= spread)) return 0;
  const std::int64_t terms = candidates.size() + has_sink;
  const double threshold = p.selection.threshold;
  const bool matters = p.selection.top_k > 0 || p.selection.mass > 0 ||
                       std::abs(std::log(threshold * static_cast<double>(terms))) <= eps;
  // Elsewhere scores that are equal as computed are enough: each edge is decided as its weight would be, and the weight
  // of a lone key is 1.
  if (!matters && has_sink) return 0;
  const double apart = matters ? spread : 0;
  if (!std::all_of(scores, scores + candidates.size(),
                   [&](T x) { return maximum - static_cast<double>(x) <= apart; })) {
    return 0;
  }
  // All candidates are nearly equal: are they all the keys that the query may see?
  const std::vector<std::int64_t>& bad = slot_->facts.bad_keys;
  const TensorView& mask = job_.problem.mask.tensor;
  std::int64_t allowed = 0;
  for (std::int64_t j = row.keys.begin; j < row.keys.end && allowed <= candidates.size(); ++j) {
    const bool masked = mask && std::isinf(mask_bias(mask.dtype, mask.at(slot_->group->batch, row.head, row.query, j)));
    allowed += !masked && !std::binary_search(bad.begin(), bad.end(), j);
  }
  if (allowed != candidates.size()) return 0;
  if (!matters) return terms;
  oracle_.open(slot_->group->batch, row.head, row.query);
  return oracle_.equal_terms();
}

// Of the row's own keys, whatever there is beside them.
template <class T>
double RowTask<T>::band_of(const Row& row, double maximum) const {
  const Problem& p = job_.problem;
  BandInput band_input;
  band_input.head_dim = p.head_dim();
  band_input.keys = row.keys.size();
  band_input.score_bound = std::abs(p.scale) * row.query_norm * row.key_norm;
  band_input.key_bound = row.key_norm;
  band_input.softcap = p.softcap;
  const double slope = std::abs(p.slope(slot_->group->batch, row.head));
  band_input.bias_bound = p.mask.tensor || slope != 0 ? std::abs(maximum) : 0.0;
  if (slope != 0) {
    const std::int64_t position = row.query + p.mask.query_offset;
    const std::int64_t farthest = std::max(std::abs(position - row.keys.begin), std::abs(position - row.keys.end));
    band_input.alibi_bound = slope * static_cast<double>(farthest);
    band_input.two_biases = static_cast<bool>(p.mask.tensor);
  }
  band_input.sum_roundings = kernel_.sum_roundings;
  band_input.score_roundings = kernel_.score_roundings(p.head_dim());
  band_input.flush = flush_bound(kernel_, p.head_dim(), p.scale, job_.query_factor(), row.query_norm, row.key_norm);
  const double cut = p.selection.threshold > 0           ? p.selection.threshold
                     : job_.plan.candidate_threshold > 0 ? mass_cut(p.selection.mass, row.keys.size())
                                                         : 0.0;
  band_input.log_cut = cut > 0 ? std::log(cut) : 0.0;
  return band<T>(band_input);
}

template <class T>
bool RowTask<T>::finish_row(Row& row, TaskResult& result) {
  const Problem& p = job_.problem;
  RowState<T>& state = row.state;
  RowStats stats;
  RunReport& report = result.report;
  if (row.unusable || state.max_key < 0) {
    report.rows_fp64 += sizeof(T) == 8;
    // exp(sink) is all that is left of the denominator.
    if (!p.logsumexp) stats.logsumexp = row.sink;
    if (p.stats.entropy) stats.entropy = 0;
    result.stats.push_back(stats);
    return true;
  }

  // The denominator as reference + rest: at scores of 1e30 their sum could not tell one key from two equal ones.
  const double reference = kLn2 * static_cast<double>(state.reference);
  const double own_rest = base_request_.sum ? std::log(state.sum) : 0.0;
  const double rest = p.logsumexp ? row.logsumexp - reference : log_add(own_rest, row.sink - reference);
  row.rest = rest;
  stats.logsumexp = p.logsumexp ? row.logsumexp : reference + rest;
  stats.maximum = kLn2 * static_cast<double>(state.maximum);
  stats.max_key = static_cast<std::int32_t>(state.max_key);

  const double eps = band_of(row, stats.maximum);
  if (sizeof(T) == 4 && eps > kWidestBand) return false;
  report.rows_fp64 += sizeof(T) == 8;
  report.eps = std::max(report.eps, eps);
  stats.eps = eps;

  // Drop what the final sum rules out before anything costs an exponential; the rest is decided by the rule.
  Candidates<T>& candidates = state.candidates;
  const double log_threshold = job_.log_threshold();
  const double final_cut =
      static_cast<double>(state.reference) + rest * kLog2E + base_request_.log2_cut - 2 * kLog2E * eps;
  candidates.compact(std::max(state.cut, static_cast<T>(final_cut)));
  const std::int64_t terms = equal_terms(row, eps);
  weights_.resize(idx(candidates.size() + Candidates<T>::kPadding));
  kernel_.weights(candidates.scores(), candidates.size(), state.reference, rest, weights_.data());
  edges_.clear();
  for (std::int64_t n = 0; n < candidates.size(); ++n) {
    const double score = kLn2 * static_cast<double>(candidates.scores()[n] - state.reference);
    const double margin = edge_margin(score, rest, log_threshold);
    report.borderline += terms == 0 && std::abs(margin) <= eps;
    const bool edge = terms > 0 ? is_uniform_row_edge(terms, p.selection.threshold) : is_edge(margin);
    if (!edge) continue;
    double weight = terms > 0 ? 1.0 / static_cast<double>(terms) : weights_[idx(n)];
    // A probability that rounding carried past 1 is 1. A given logsumexp may be that of other scores: then it shows.
    if (!p.logsumexp) weight = std::min(weight, 1.0);
    if (!(weight <= static_cast<double>(std::numeric_limits<float>::max()))) {
      fail(Status::kRange,
           "the weight of batch {}, head {}, query {}, key {} is {:g}; the given lse is not that of these scores",
           slot_->group->batch, row.head, row.query, candidates.keys()[n], weight);
    }
    edges_.push_back({weight, static_cast<std::int32_t>(candidates.keys()[n])});
  }
  // The last strip came first: two ascending runs, one rotation.
  const auto ascending = [](const RowEdge& a, const RowEdge& b) { return a.key < b.key; };
  std::rotate(edges_.begin(), std::is_sorted_until(edges_.begin(), edges_.end(), ascending), edges_.end());
  select_row(p.selection, edges_);
  for (const RowEdge& edge : edges_) {
    stats.kept_mass += edge.weight;
    result.keys.push_back(edge.key);
    result.weights.push_back(static_cast<float>(edge.weight));
  }
  if (p.stats.entropy) {
    // Of the keys' own softmax, rescaled to the denominator in use, plus the sink's term.
    const double mean = kLn2 * state.weighted / state.sum;
    stats.entropy = std::exp(own_rest - rest) * (rest - mean);
    if (row.sink > -kInfinity) stats.entropy += std::exp(row.sink - stats.logsumexp) * (stats.logsumexp - row.sink);
  }
  result.stats.push_back(stats);
  return true;
}

template bool RowTask<float>::finish_row(Row&, TaskResult&);
template bool RowTask<double>::finish_row(Row&, TaskResult&);

}  // namespace ag::cpu
