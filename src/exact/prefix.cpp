// SPDX-License-Identifier: Apache-2.0
#include "prefix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "band.hpp"

namespace ag::exact {
namespace {

constexpr std::size_t kBeyond = std::numeric_limits<std::size_t>::max();

}  // namespace

Selection relaxed(const Selection& selection, bool given_logsumexp) {
  Selection out = selection;
  out.threshold *= std::exp(-kRelaxed);
  if (out.top_k > 0) out.top_k += std::min<std::int64_t>(8 + out.top_k / 8, std::int64_t{1} << 32);
  // A sixteenth of what is left out comes along: several bands.
  if (out.mass > 0) out.mass += (1 - out.mass) / 16;
  // No key can be left out of a sum of 1, however light.
  if (out.mass >= 1 && !given_logsumexp) out.mass = 0;
  return out;
}

double PrefixFinder::above(std::size_t n) const { return std::max(heavy_[n], kTinyWeight) * factor_; }
double PrefixFinder::below(std::size_t n) const { return heavy_[n] > kTinyWeight ? heavy_[n] / factor_ : 0; }

// Neither top-k nor mass ended the answer, so it has every key that the threshold, if there is one, may leave.
bool PrefixFinder::is_complete() const {
  const bool by_mass = asked_.mass > 0 && !(sum_ < asked_.mass * (1 - kFloatRounding));
  return !by_mass && (asked_.top_k == 0 || static_cast<std::int64_t>(heavy_.size()) < asked_.top_k);
}

const PrefixAnswer& PrefixFinder::find(const float* weights, std::size_t count, double band) {
  answer_.prefix = Prefix::kRow;
  answer_.chosen.clear();
  answer_.doubtful.clear();
  answer_.count = 0;
  if (!(band <= kWidestBand)) return answer_;
  factor_ = std::exp(band + kFloatRounding);
  order_.resize(count);
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::sort(order_.begin(), order_.end(),
            [&](std::size_t a, std::size_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; });
  heavy_.resize(count);
  sum_ = 0;
  for (std::size_t n = 0; n < count; ++n) sum_ += heavy_[n] = static_cast<double>(weights[order_[n]]);
  const bool complete = is_complete();

  // The prefix has at least `low` and at most `high` keys.
  std::size_t low = kBeyond, high = kBeyond;
  if (selection_.top_k > 0) low = high = static_cast<std::size_t>(selection_.top_k);
  if (const double t = selection_.threshold; t > 0) {
    std::size_t sure = 0, most = 0;
    for (std::size_t n = 0; n < count; ++n) {
      sure += below(n) >= t;
      most += above(n) >= t;
    }
    low = std::min(low, sure == count && !complete ? kBeyond : sure);
    high = std::min(high, most == count && !complete ? kBeyond : most);
  }
  if (asked_.mass > 0) {
    double least = 0, most = 0;
    std::size_t from = kBeyond, to = kBeyond;
    for (std::size_t n = 0; n < count && to == kBeyond; ++n) {
      least += below(n);
      most += above(n);
      if (from == kBeyond && most >= selection_.mass) from = n + 1;
      if (least >= selection_.mass) to = n + 1;
    }
    low = std::min(low, from);
    high = std::min(high, to);
  }
  if (complete) {
    low = std::min(low, count);
    high = std::min(high, count);
  }
  if (low != high || high > count || (high == count && !complete)) return answer_;

  const std::size_t n = high;
  const double next = n < count ? above(n) : 0, last = n > 0 ? below(n - 1) : 0;
  for (std::size_t m = 0; m < count; ++m) {
    if (n == count || (m < n && below(m) > next)) {
      answer_.chosen.push_back(order_[m]);
    } else if (n > 0 && above(m) >= last) {
      answer_.doubtful.push_back(order_[m]);
    }
  }
  answer_.count = n - answer_.chosen.size();
  if (answer_.count == 0) {
    answer_.prefix = Prefix::kSure;
  } else if (complete || above(count - 1) < last) {
    answer_.prefix = Prefix::kOrder;  // a key that the backend left out is no heavier than its last one
  }
  std::sort(answer_.chosen.begin(), answer_.chosen.end());
  std::sort(answer_.doubtful.begin(), answer_.doubtful.end());
  return answer_;
}

}  // namespace ag::exact
