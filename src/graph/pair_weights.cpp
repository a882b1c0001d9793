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

constexpr std::size_t kAtOnce = 4;  // keys that share what is loaded of the query, and chains that do not wait

// q . k of four keys.
std::array<double, kAtOnce> dots(const double* q, const std::array<const double*, kAtOnce>& k, std::int64_t dim) {
  const hn::ScalableTag<double> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + step <= dim; i += step) {
    const auto values = hn::LoadU(d, q + i);
    a = hn::MulAdd(values, hn::LoadU(d, k[0] + i), a);
    b = hn::MulAdd(values, hn::LoadU(d, k[1] + i), b);
    c = hn::MulAdd(values, hn::LoadU(d, k[2] + i), c);
    e = hn::MulAdd(values, hn::LoadU(d, k[3] + i), e);
  }
  std::array<double, kAtOnce> sums{hn::GetLane(hn::SumOfLanes(d, a)), hn::GetLane(hn::SumOfLanes(d, b)),
                                   hn::GetLane(hn::SumOfLanes(d, c)), hn::GetLane(hn::SumOfLanes(d, e))};
  for (; i < dim; ++i)
    for (std::size_t n = 0; n < kAtOnce; ++n) sums[n] += q[i] * k[n][i];
  return sums;
}

void pair_weights(const PairRow& row, std::span<const std::int64_t> keys, std::span<const double> biases,
                  std::span<double> weights) {
  const hn::ScalableTag<double> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto lse = hn::Set(d, row.logsumexp);
  const auto largest = hn::Set(d, std::numeric_limits<double>::max());
  constexpr std::size_t kRun = 64;  // scores that wait for their exponential
  static_assert(kRun % kAtOnce == 0);
  alignas(64) std::array<double, kRun> scores;
  for (std::size_t begin = 0; begin < keys.size(); begin += kRun) {
    const std::size_t count = std::min(kRun, keys.size() - begin);
    for (std::size_t n = 0; n < count; n += kAtOnce) {
      std::array<const double*, kAtOnce> four;
      for (std::size_t m = 0; m < kAtOnce; ++m)
        four[m] = row.keys + keys[begin + std::min(n + m, count - 1)] * row.head_dim;
      const std::array<double, kAtOnce> found = dots(row.query, four, row.head_dim);
      for (std::size_t m = 0; m < kAtOnce; ++m) scores[n + m] = found[m];
    }
    for (std::size_t n = 0; n < count; ++n)
      scores[n] = row.rule.score(scores[n], biases.empty() ? 0.0 : biases[begin + n]);
    std::fill(scores.begin() + static_cast<std::ptrdiff_t>(count), scores.end(), 0.0);
    for (std::size_t n = 0; n < count; n += lanes) {
      const auto score = hn::Load(d, scores.data() + n);
      const auto weight = hn::Exp(d, hn::Min(hn::Zero(d), hn::Sub(score, lse)));
      // NaN is not below, so it weighs nothing either.
      hn::Store(hn::IfThenElseZero(hn::Le(hn::Abs(score), largest), weight), d, scores.data() + n);
    }
    std::copy_n(scores.begin(), count, weights.begin() + static_cast<std::ptrdiff_t>(begin));
  }
}

}  // namespace ag::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ag {

HWY_EXPORT(pair_weights);

void pair_weights(const PairRow& row, std::span<const std::int64_t> keys, std::span<const double> biases,
                  std::span<double> weights) {
  HWY_DYNAMIC_DISPATCH(pair_weights)(row, keys, biases, weights);
}

}  // namespace ag
#endif
