// SPDX-License-Identifier: Apache-2.0
#include "pair_weights.hpp"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "graph/pair_weights.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h: this is what it compiles again and again.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace ag::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kRun = 64;  // scores of a row that wait for their exponential

// q . k of kRows queries with kKeys keys: chains that do not wait for each other, and share what they load.
template <std::size_t kRows, std::size_t kKeys>
HWY_INLINE void dots(const PairRow* rows, const std::array<const double*, kKeys>& k, std::int64_t dim, double* scores) {
  const hn::ScalableTag<double> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<decltype(d)> sums[kRows][kKeys];
  for (auto& of_row : sums)
    for (auto& sum : of_row) sum = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + step <= dim; i += step) {
    hn::Vec<decltype(d)> values[kKeys];
    for (std::size_t n = 0; n < kKeys; ++n) values[n] = hn::LoadU(d, k[n] + i);
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto query = hn::LoadU(d, rows[r].query + i);
      for (std::size_t n = 0; n < kKeys; ++n) sums[r][n] = hn::MulAdd(query, values[n], sums[r][n]);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t n = 0; n < kKeys; ++n) {
      double sum = hn::GetLane(hn::SumOfLanes(d, sums[r][n]));
      for (std::int64_t rest = i; rest < dim; ++rest) sum += rows[r].query[rest] * k[n][rest];
      scores[r * kRun + n] = sum;
    }
  }
}

// Products in, weights out; lanes beyond `count` hold anything.
HWY_INLINE void weigh(double* HWY_RESTRICT scores, std::size_t count, const ScoreRule& rule, double logsumexp,
                      const double* biases) {
  const hn::ScalableTag<double> d;
  const auto lse = hn::Set(d, logsumexp), scale = hn::Set(d, rule.scale);
  const auto largest = hn::Set(d, std::numeric_limits<double>::max());
  const bool plain = rule.softcap == 0 && biases == nullptr;
  if (!plain) {
    for (std::size_t n = 0; n < count; ++n) scores[n] = rule.score(scores[n], biases == nullptr ? 0.0 : biases[n]);
  }
  for (std::size_t n = 0; n < count; n += hn::Lanes(d)) {
    auto score = hn::Load(d, scores + n);
    if (plain) score = hn::Mul(score, scale);
    const auto weight = hn::Exp(d, hn::Min(hn::Zero(d), hn::Sub(score, lse)));
    // NaN is not below, so it weighs nothing either.
    hn::Store(hn::IfThenElseZero(hn::Le(hn::Abs(score), largest), weight), d, scores + n);
  }
}

template <std::size_t kRows, std::size_t kKeys>
void weights_of(const PairRow* rows, const PairKeys& of, std::span<const std::int64_t> keys, const double* biases,
                double* weights) {
  static_assert(kRun % kKeys == 0);
  alignas(64) std::array<double, kRows * kRun> scores{};
  for (std::size_t begin = 0; begin < keys.size(); begin += kRun) {
    const std::size_t count = std::min(kRun, keys.size() - begin);
    for (std::size_t n = 0; n < count; n += kKeys) {
      std::array<const double*, kKeys> some;
      for (std::size_t m = 0; m < kKeys; ++m)
        some[m] = of.keys + keys[begin + std::min(n + m, count - 1)] * of.head_dim;
      dots<kRows, kKeys>(rows, some, of.head_dim, scores.data() + n);
    }
    for (std::size_t r = 0; r < kRows; ++r) {
      const std::size_t at = r * keys.size() + begin;
      weigh(scores.data() + r * kRun, count, of.rule, rows[r].logsumexp, biases == nullptr ? nullptr : biases + at);
      std::copy_n(scores.data() + r * kRun, count, weights + at);
    }
  }
}

void pair_weights(std::span<const PairRow> rows, const PairKeys& of, std::span<const std::int64_t> keys,
                  std::span<const double> biases, std::span<double> weights) {
  std::size_t r = 0;
  const auto some = [&](auto weigh_some, std::size_t count) {
    const std::size_t at = r * keys.size();
    weigh_some(rows.data() + r, of, keys, biases.empty() ? nullptr : biases.data() + at, weights.data() + at);
    r += count;
  };
  // 8 sums and what they are made from stand in 16 registers.
  while (r + kPairRows <= rows.size()) some(weights_of<kPairRows, 2>, kPairRows);
  while (r < rows.size()) some(weights_of<1, 4>, 1);
}

}  // namespace ag::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ag {

HWY_EXPORT(pair_weights);

void pair_weights(std::span<const PairRow> rows, const PairKeys& of, std::span<const std::int64_t> keys,
                  std::span<const double> biases, std::span<double> weights) {
  HWY_DYNAMIC_DISPATCH(pair_weights)(rows, of, keys, biases, weights);
}

}  // namespace ag
#endif
