// SPDX-License-Identifier: Apache-2.0
#include "judge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "../core/edge_rule.hpp"
#include "../core/numbers.hpp"
#include "scores.hpp"

namespace ag::exact {
namespace {

constexpr double kRoundoff = 0x1p-53;

}  // namespace

RowJudge::RowJudge(const Problem& problem)
    : p_(problem),
      oracle_(problem,
              [this] {
                if (poll_) poll_();
              }),
      key_(static_cast<std::size_t>(problem.head_dim())) {}

void RowJudge::open(std::int64_t batch, std::int64_t head, std::int64_t query, const std::function<void()>& poll) {
  poll_ = poll;
  batch_ = batch;
  head_ = head;
  measured_ = false;
  oracle_.open(batch, head, query);
}

void RowJudge::measure() {
  if (measured_) return;
  measured_ = true;
  const std::int64_t batch = batch_, key_head = p_.key_head_of(head_);
  const bool side_by_side = p_.k.strides[3] == 1 || p_.head_dim() == 1;
  const ScoreRule rule = p_.score_rule();
  const bool has_biases = oracle_.has_biases();
  scores_.resize(keys().size());
  double size = 0, bias_size = 0;
  largest_ = 0;
  for (std::size_t n = 0; n < scores_.size(); ++n) {
    if (n % 4096 == 0 && poll_) poll_();
    const void* row = p_.k.at(batch, key_head, keys()[n]);
    DType dtype = p_.k.dtype;
    if (!side_by_side) {
      for (std::size_t d = 0; d < key_.size(); ++d)
        key_[d] = load_double(dtype, p_.k.at(batch, key_head, keys()[n], d));
      row = key_.data();
      dtype = DType::kF64;
    }
    const DotAndSize product = dot_in_double(oracle_.query().data(), row, dtype, p_.head_dim());
    const double score = rule.score(product.dot, has_biases ? oracle_.bias(n) : 0.0);
    if (has_biases) bias_size = std::max(bias_size, oracle_.bias_size(n));
    size = std::max(size, product.size);
    largest_ = std::max(largest_, std::abs(score));
    scores_[n] = score;
  }
  // D products and sums, the size itself as far off; scale, softcap, bias; what underflows.
  const auto d = static_cast<double>(p_.head_dim());
  const double scale = std::abs(p_.scale);
  score_error_ = 1.01 * kRoundoff * ((d + 4) * scale * size + 12 * p_.softcap + 4 * (largest_ + bias_size)) +
                 (d + 1) * 0x1p-1070 * (1 + scale);
  sum_up();
}

void RowJudge::sum_up() {
  terms_.resize(scores_.size());
  if (p_.logsumexp) {
    reference_ = 0;
    rest_ = oracle_.given_logsumexp() * p_.logsumexp_unit;
    for (std::size_t n = 0; n < scores_.size(); ++n) terms_[n] = std::exp(scores_[n] - rest_);
    return;
  }
  reference_ = oracle_.sink();
  for (const double s : scores_) reference_ = std::max(reference_, s);
  double sum = oracle_.sink() > -kInfinity ? std::exp(oracle_.sink() - reference_) : 0.0;
  for (std::size_t n = 0; n < scores_.size(); ++n) sum += terms_[n] = std::exp(scores_[n] - reference_);
  rest_ = std::log(sum);
}

double RowJudge::margin_error(std::size_t n) const { return margin_error(std::abs(scores_[n])); }

double RowJudge::margin_error(double size) const {
  const double count = static_cast<double>(scores_.size());
  const double sum_error =
      p_.logsumexp ? 0.0 : score_error_ + kRoundoff * (largest_ + std::abs(reference_) + 2 * count);
  const double log_t = p_.selection.threshold > 0 ? std::abs(std::log(p_.selection.threshold)) : 0.0;
  return score_error_ + sum_error + 4 * kRoundoff * (8 + size + std::abs(reference_) + std::abs(rest_) + log_t);
}

std::size_t RowJudge::place_of(std::int32_t key) const {
  return static_cast<std::size_t>(std::lower_bound(keys().begin(), keys().end(), key) - keys().begin());
}

std::int64_t RowJudge::decide(std::span<const std::int32_t> asked, std::vector<char>& is_edge) {
  measure();
  const double log_t = std::log(p_.selection.threshold);
  is_edge.assign(asked.size(), 0);
  std::vector<std::size_t> open, places(asked.size());
  for (std::size_t a = 0; a < asked.size(); ++a) {
    const std::size_t n = places[a] = place_of(asked[a]);
    const double margin = edge_margin(scores_[n] - reference_, rest_, log_t);
    const double error = margin_error(n);
    if (margin > error) {
      is_edge[a] = 1;
    } else if (!(margin < -error)) {
      open.push_back(a);
    }
  }
  return open.empty() ? 0 : ask_oracle(open, places, is_edge);
}

std::int64_t RowJudge::ask_oracle(std::span<const std::size_t> open, std::span<const std::size_t> places,
                                  std::vector<char>& is_edge) {
  const double threshold = p_.selection.threshold;
  std::int64_t unknown = 0;
  const auto ask = [&](std::size_t a) {
    const Answer answer = oracle_.reaches(places[a], threshold);
    unknown += answer == Answer::kUnknown;
    return answer == Answer::kYes;
  };
  if (open.size() < 4 || oracle_.equal_terms() > 0) {
    for (const std::size_t a : open) is_edge[a] = ask(a);
    return unknown;
  }
  // The heavier ones are edges when a lighter one is: the border is found by halving.
  std::vector<std::size_t> order(open.begin(), open.end());
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return precedes(places[a], places[b]); });
  const auto border = std::partition_point(order.begin(), order.end(), ask);
  for (auto a = order.begin(); a != border; ++a) is_edge[*a] = 1;
  return unknown;
}

bool RowJudge::precedes(std::size_t a, std::size_t b) {
  if (++compared_ % 1024 == 0 && poll_) poll_();
  return oracle_.precedes(a, b);
}

void RowJudge::bring_heaviest_forward(std::vector<std::size_t>& order, std::size_t count) {
  if (count == 0 || count >= order.size()) return;
  const auto by_score = [&](std::size_t a, std::size_t b) { return scores_[a] > scores_[b]; };
  const auto last = order.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(order.begin(), last, order.end(), by_score);
  // What is further from the last score than both may be off by is on its side of it; the rest is compared.
  const double at = scores_[*last], apart = 4 * score_error_;
  const auto above = std::partition(order.begin(), order.end(), [&](std::size_t n) { return scores_[n] > at + apart; });
  const auto near = std::partition(above, order.end(), [&](std::size_t n) { return scores_[n] >= at - apart; });
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(count);
  if (end < near) std::nth_element(above, end, near, [&](std::size_t a, std::size_t b) { return precedes(a, b); });
}

std::size_t RowJudge::mass_prefix(std::vector<std::size_t>& order, std::size_t most, std::int64_t& unknown) {
  const double mass = p_.selection.mass;
  if (!p_.logsumexp && mass >= 1) return most;  // no key can be left out
  const auto by_score = [&](std::size_t a, std::size_t b) { return scores_[a] > scores_[b]; };
  const double unit = p_.logsumexp ? 1.0 : std::exp(-rest_);
  const auto place = [&](std::size_t n) { return order.begin() + static_cast<std::ptrdiff_t>(n); };
  // Whatever n keys are the heaviest in truth, their weights sum to what the first n of this order do, but for `off`.
  const double off = std::expm1(2 * margin_error(largest_) + kRoundoff * static_cast<double>(4 * (most + 8)));
  // The first `done` do not reach the mass, whatever their order; the first `end` do, or are all that count.
  std::size_t done = 0, end = std::min<std::size_t>(most, 64);
  double sum = 0;
  while (true) {
    if (end < order.size()) std::nth_element(place(done), place(end), order.end(), by_score);
    double more = sum;
    for (std::size_t n = done; n < end; ++n) more += terms_[order[n]] * unit;
    if (end == most || more * (1 + off) >= mass) break;
    sum = more;
    done = end;
    end = std::min(most, 4 * end);
  }
  // The prefix's length lies in [low, high].
  std::size_t low = most, high = most;
  while (true) {
    std::sort(place(done), place(end), by_score);
    for (std::size_t n = done; n < end && high == most; ++n) {
      sum += terms_[order[n]] * unit;
      if (low == most && sum * (1 + off) >= mass) low = n + 1;
      if (sum * (1 - off) >= mass) high = n + 1;
    }
    if (high != most || end == most) break;
    done = end;
    end = std::min(most, 4 * end);
    if (end < order.size()) std::nth_element(place(done), place(end), order.end(), by_score);
  }
  while (low < high) {
    const std::size_t middle = (low + high - 1) / 2;
    bring_heaviest_forward(order, middle);
    std::vector<std::size_t> prefix(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(middle));
    if (!prefix.empty()) {  // the heaviest comes first
      std::iter_swap(prefix.begin(), std::min_element(prefix.begin(), prefix.end(), [&](std::size_t a, std::size_t b) {
                       return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b;
                     }));
    }
    const Answer answer = oracle_.sum_reaches(prefix, mass);
    unknown += answer == Answer::kUnknown;
    if (answer == Answer::kYes) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

std::int64_t RowJudge::select(std::vector<std::int32_t>& chosen) {
  const Selection& selection = p_.selection;
  measure();
  std::int64_t unknown = 0;
  std::size_t count = keys().size();
  if (selection.threshold > 0) {
    std::vector<char> is_edge;
    unknown += decide(keys(), is_edge);
    count = static_cast<std::size_t>(std::count(is_edge.begin(), is_edge.end(), 1));
  }
  if (selection.top_k > 0) count = std::min(count, static_cast<std::size_t>(selection.top_k));
  std::vector<std::size_t> order(keys().size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (selection.mass > 0) count = mass_prefix(order, count, unknown);
  bring_heaviest_forward(order, count);
  order.resize(count);
  std::sort(order.begin(), order.end());
  chosen.clear();
  for (const std::size_t n : order) chosen.push_back(keys()[n]);
  return unknown;
}

void RowJudge::heaviest_of(std::span<const std::int32_t> asked, std::size_t count, std::vector<char>& is_edge) {
  is_edge.assign(asked.size(), 0);
  if (asked.empty()) return;
  std::vector<std::size_t> order(asked.size()), places;
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (const std::int32_t key : asked) places.push_back(place_of(key));
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(count, order.size() - 1));
  std::nth_element(order.begin(), end, order.end(),
                   [&](std::size_t a, std::size_t b) { return precedes(places[a], places[b]); });
  for (std::size_t n = 0; n < std::min(count, order.size()); ++n) is_edge[order[n]] = 1;
}

double RowJudge::weight(std::int32_t key) {
  measure();
  const std::size_t n = place_of(key);
  if (margin_error(n) < 0x1p-26) return std::exp((scores_[n] - reference_) - rest_);
  return oracle_.weight(n);
}

}  // namespace ag::exact
