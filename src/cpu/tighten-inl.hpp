// SPDX-License-Identifier: Apache-2.0
// How high the cut of a row may be when top-k or mass selects, compiled once per instruction set. Every candidate is
// looked at a dozen times, a vector at a time: cheaper than to order them.
#if defined(ATTNGRAPH_CPU_TIGHTEN_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTNGRAPH_CPU_TIGHTEN_INL_HPP
#undef ATTNGRAPH_CPU_TIGHTEN_INL_HPP
#else
#define ATTNGRAPH_CPU_TIGHTEN_INL_HPP
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "exp2-inl.hpp"
#include "kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace ag::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Of scores that are padded with -inf. The smallest that is not -inf; +inf when there is none.
template <class T>
T smallest_score(const T* x, std::int64_t n) {
  const hn::ScalableTag<T> d;
  const auto none = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto smallest = hn::Set(d, std::numeric_limits<T>::infinity());
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto v = hn::LoadU(d, x + i);
    smallest = hn::Min(smallest, hn::IfThenElse(hn::Eq(v, none), smallest, v));
  }
  return hn::GetLane(hn::MinOfLanes(d, smallest));
}

template <class T>
std::int64_t count_from(const T* x, std::int64_t n, T cut) {
  const hn::ScalableTag<T> d;
  const auto least = hn::Set(d, cut), one = hn::Set(d, T{1});
  auto count = hn::Zero(d);  // exact: below 2^24 a lane
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    count = hn::Add(count, hn::IfThenElseZero(hn::Ge(hn::LoadU(d, x + i), least), one));
  }
  return static_cast<std::int64_t>(hn::GetLane(hn::SumOfLanes(d, count)));
}

// Sum of p where x < cut.
template <class T>
double sum_below(const T* x, const T* p, std::int64_t n, T cut) {
  const hn::ScalableTag<T> d;
  const auto least = hn::Set(d, cut);
  auto sum = hn::Zero(d);
  for (std::int64_t i = 0; i < n; i += static_cast<std::int64_t>(hn::Lanes(d))) {
    sum = hn::Add(sum, hn::IfThenElseZero(hn::Lt(hn::LoadU(d, x + i), least), hn::LoadU(d, p + i)));
  }
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
}

// The weights of the candidates in units of the row's reference, into their scratch; returns the sum.
template <class T>
double candidate_weights(RowState<T>& row) {
  const hn::ScalableTag<T> d;
  Candidates<T>& candidates = row.candidates;
  candidates.pad();
  const T* x = candidates.scores();
  T* p = candidates.scratch();
  const auto reference = hn::Set(d, row.reference);
  auto sum = hn::Zero(d);
  for (std::int64_t i = 0; i < candidates.size(); i += static_cast<std::int64_t>(hn::Lanes(d))) {
    const auto v = hn::LoadU(d, x + i);
    const auto weight =
        hn::IfThenElseZero(hn::Gt(v, hn::Set(d, -std::numeric_limits<T>::infinity())), Exp2(d, hn::Sub(v, reference)));
    hn::StoreU(weight, d, p + i);
    sum = hn::Add(sum, weight);
  }
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
}

// A cut that at least k candidates reach, and not many more; `low` when that is all that can be said.
template <class T>
T cut_for_top_k(const Candidates<T>& candidates, std::int64_t k, T low, T high) {
  constexpr int kSteps = 14;
  if (candidates.size() <= k) return low;
  const T* x = candidates.scores();
  const T smallest = smallest_score(x, candidates.size());
  if (count_from(x, candidates.size(), smallest) < k) return low;  // the others are masked
  low = std::max(low, smallest);
  for (int step = 0; step < kSteps; ++step) {
    const T middle = low / 2 + high / 2;
    if (!(middle > low)) break;
    const std::int64_t count = count_from(x, candidates.size(), middle);
    if (count >= k) {
      low = middle;
      if (count <= k + k / 8) break;
    } else {
      high = middle;
    }
  }
  return low;
}

// The highest cut, nearly, below which at most `budget` of the candidates' weight lies (those of scratch).
template <class T>
T cut_for_mass(Candidates<T>& candidates, double budget, T low, T high, int steps) {
  const T* x = candidates.scores();
  low = std::max(low, smallest_score(x, candidates.size()));
  for (int step = 0; step < steps; ++step) {
    const T middle = low / 2 + high / 2;
    if (!(middle > low)) break;
    if (sum_below(x, candidates.scratch(), candidates.size(), middle) <= budget) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// What 2^x and sums in float may be off by, relative, and ample.
inline constexpr double kMassSlack = 1e-5;

template <class T>
double mass_wanted(const RowState<T>& row, const SweepRequest& request) {
  const double all = row.sum + std::exp2(request.log2_sink - static_cast<double>(row.reference));
  return request.mass * (1 + 2 * kMassSlack) * all;
}

// Keys to come may be light, each of them, and still be needed. So while a share `left` of a row's keys is to come,
// more is kept than the mass: the odds of being kept are so many times higher. Fitted to real and synthetic heads:
// larger numbers mean more candidates, smaller ones more rows whose guess was too high and which are done again.
inline double odds_factor(double left) {
  const double square = left * left;
  return 4 + 60 * square * square;
}

template <class T>
void tighten(RowState<T>& row, const SweepRequest& request, bool complete) {
  Candidates<T>& candidates = row.candidates;
  if (candidates.size() == 0) return;
  candidates.pad();
  T cut = row.cut;
  if (request.top_k > 0) cut = std::max(cut, cut_for_top_k(candidates, request.top_k, row.cut, row.maximum));
  if (request.mass > 0) {
    const double dropped = std::max(0.0, row.sum - candidate_weights(row));
    double wanted = mass_wanted(row, request);
    if (!complete) {
      const double left = 1 - std::min(1.0, static_cast<double>(row.seen) / static_cast<double>(row.keys));
      const double odds = odds_factor(left);
      wanted *= odds / (1 + (odds - 1) * request.mass);
    }
    const double budget = row.sum - wanted - dropped;
    if (budget > 0) {
      const T guess = cut_for_mass(candidates, budget, row.cut, row.maximum, complete ? 14 : 7);
      row.guessed = row.guessed || guess > row.cut;
      cut = std::max(cut, guess);
    }
  }
  if (cut > row.cut || row.review_at == 0) {  // the first strip came whole, masked keys and all
    row.cut = cut;
    candidates.compact(cut);
  }
  row.review_at = candidates.size() + std::max<std::int64_t>(candidates.size(), 64);
}

// Whether the candidates hold the mass: what a guess left out is then not needed.
template <class T>
bool holds_mass(RowState<T>& row, const SweepRequest& request) {
  return candidate_weights(row) >= mass_wanted(row, request);
}

}  // namespace ag::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
