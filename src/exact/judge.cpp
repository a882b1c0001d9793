// SPDX-License-Identifier: Apache-2.0
#include "judge.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "../core/edge_rule.hpp"
#include "scores.hpp"

namespace ag::exact {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
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
  oracle_.open(batch, head, query);
  const std::int64_t key_head = p_.key_head_of(head);
  const bool side_by_side = p_.k.strides[3] == 1 || p_.head_dim() == 1;
  const std::span<const double> biases = oracle_.biases();
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
    double score = p_.scale * product.dot;
    if (p_.softcap > 0) score = p_.softcap * std::tanh(score / p_.softcap);
    if (!biases.empty()) {
      score += biases[n];
      bias_size = std::max(bias_size, std::abs(biases[n]));
    }
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
  if (p_.logsumexp) {
    reference_ = 0;
    rest_ = oracle_.given_logsumexp() * p_.logsumexp_unit;
    return;
  }
  reference_ = oracle_.sink();
  for (const double s : scores_) reference_ = std::max(reference_, s);
  double sum = oracle_.sink() > -kInfinity ? std::exp(oracle_.sink() - reference_) : 0.0;
  for (const double s : scores_) sum += std::exp(s - reference_);
  rest_ = std::log(sum);
}

double RowJudge::margin_error(std::size_t n) const {
  const double count = static_cast<double>(scores_.size());
  const double sum_error =
      p_.logsumexp ? 0.0 : score_error_ + kRoundoff * (largest_ + std::abs(reference_) + 2 * count);
  const double log_t = std::abs(std::log(p_.selection.threshold));
  return score_error_ + sum_error +
         4 * kRoundoff * (8 + std::abs(scores_[n]) + std::abs(reference_) + std::abs(rest_) + log_t);
}

std::size_t RowJudge::place_of(std::int32_t key) const {
  return static_cast<std::size_t>(std::lower_bound(keys().begin(), keys().end(), key) - keys().begin());
}

std::int64_t RowJudge::decide(std::span<const std::int32_t> asked, std::vector<char>& is_edge) {
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
  if (open.size() < 4 || oracle_.equal_terms() > 0 || !oracle_.has_order()) {
    for (const std::size_t a : open) is_edge[a] = ask(a);
    return unknown;
  }
  // The heavier ones are edges when a lighter one is: the border is found by halving.
  std::vector<Real> ranks(is_edge.size());
  for (const std::size_t a : open) ranks[a] = oracle_.rank(places[a]);
  std::vector<std::size_t> order(open.begin(), open.end());
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return ranks[b] < ranks[a]; });
  const auto border = std::partition_point(order.begin(), order.end(), ask);
  for (auto a = order.begin(); a != border; ++a) is_edge[*a] = 1;
  return unknown;
}

double RowJudge::weight(std::int32_t key) {
  const std::size_t n = place_of(key);
  if (margin_error(n) < 0x1p-26) return std::exp((scores_[n] - reference_) - rest_);
  return oracle_.weight(n);
}

}  // namespace ag::exact
