// SPDX-License-Identifier: Apache-2.0
// The sweep of a strip by pieces (RunningSweep), and what it shares with that of whole strips; compiled once per
// instruction set.
#if defined(ATTNGRAPH_CPU_RUNNING_SWEEP_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTNGRAPH_CPU_RUNNING_SWEEP_INL_HPP
#undef ATTNGRAPH_CPU_RUNNING_SWEEP_INL_HPP
#else
#define ATTNGRAPH_CPU_RUNNING_SWEEP_INL_HPP
#endif

#include <hwy/highway.h>

#include <bit>
#include <cmath>
#include <limits>

#include "exp2-inl.hpp"
#include "kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace ag::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A lower bound of log2(s) within 0.09, for normal s > 0: exponent plus linear mantissa. Replaces a logarithm per
// strip.
HWY_INLINE double log2_lower_bound(double s) {
  const auto bits = std::bit_cast<std::uint64_t>(s);
  const double mantissa = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
  return static_cast<double>(static_cast<std::int64_t>(bits >> 52) - 1023) + (mantissa - 1.0);
}

// Moves the reference of the sums to the row's largest score, if it is above.
template <class T>
HWY_INLINE void raise_reference(RowState<T>& row) {
  const T reference = std::ceil(row.maximum);
  if (reference <= row.reference) return;
  if (row.sum > 0) {
    const double shift = static_cast<double>(row.reference) - static_cast<double>(reference);
    const double factor = std::exp2(shift);  // a power of two: exact
    row.weighted = factor * (row.weighted + shift * row.sum);
    row.sum *= factor;
  }
  row.reference = reference;
}

// The logsumexp only grows, so what is below the cut now will be below it at the end.
template <class T>
HWY_INLINE void raise_cut(RowState<T>& row, const SweepRequest& request) {
  const double cut = static_cast<double>(row.reference) + log2_lower_bound(row.sum) + request.log2_cut;
  row.cut = std::max(row.cut, static_cast<T>(cut));
}

// A row has a vector of sums and no other lane of its own: its largest score and its candidates are found by one
// comparison, which few scores pass, and looked at one by one. The factor of the scores is part of the exponential's
// argument, score * factor - reference, rounded once.
#if HWY_MAX_BYTES >= 32  // a comparison yields whole bytes of bits

// How far a score may be above the reference from before its strip, in base 2. No further than depth of the band
// (docs/numerics.md): a strip that is seen whole is not the row's only one.
inline constexpr float kMostAbove = 16;

// Of score * factor - reference, rounded once, where the rounded score reaches `least`.
HWY_INLINE float least_above(float least, float reference) {
  const double l = static_cast<double>(least), r = static_cast<double>(reference);
  const double slack = 0x1p-22 * (std::abs(l) + std::abs(r)) + 0x1p-100;
  return static_cast<float>(std::max(l - r - slack, -1e30));
}

HWY_INLINE float least_of_interest(const RowState<float>& row, float reference) {
  return least_above(std::min(row.cut, row.maximum), reference);
}

inline void open_sweep(RunningSweep<float>& sweep) {
  for (std::int64_t r = 0; r < sweep.rows; ++r) {
    std::fill_n(sweep.sums[r], RunningSweep<float>::kLanes, 0.0f);
    const RowState<float>* row = sweep.states[r];
    if (row == nullptr) {
      sweep.reference[r] = 0;
      sweep.least[r] = std::numeric_limits<float>::infinity();
      continue;
    }
    sweep.reference[r] = row->reference;
    sweep.least[r] = least_of_interest(*row, row->reference);
    sweep.maximum_before[r] = row->maximum;
    sweep.max_key_before[r] = row->max_key;
    sweep.candidates_before[r] = row->candidates.size();
  }
}

// The comparison before the exponential lets a score through now and then that is neither.
inline void take_hits(RunningSweep<float>& sweep, std::int64_t r, const float* HWY_RESTRICT scores,
                      std::int64_t first_key) {
  const hn::ScalableTag<float> d;
  constexpr std::int64_t kStep = hn::MaxLanes(d);
  RowState<float>& row = *sweep.states[r];
  const auto cut = hn::Set(d, row.cut), maximum = hn::Set(d, row.maximum), factor = hn::Set(d, sweep.factor);
  HWY_ALIGN float x[kPieceKeys];
  std::uint32_t bits;
  auto* bytes = reinterpret_cast<std::uint8_t*>(&bits);
  for (std::int64_t j = 0; j < kPieceKeys; j += kStep) {
    const auto v = hn::Mul(hn::Load(d, scores + j), factor);
    hn::Store(v, d, x + j);
    const auto largest = first_key < row.max_key ? hn::Ge(v, maximum) : hn::Gt(v, maximum);
    hn::StoreMaskBits(d, hn::Or(hn::Ge(v, cut), largest), bytes + j / 8);
  }
  auto* keys = row.candidates.keys();
  float* values = row.candidates.scores();
  std::int64_t n = row.candidates.size();
  for (; bits != 0; bits &= bits - 1) {
    const int j = std::countr_zero(bits);
    const std::int64_t key = first_key + j;
    if (x[j] > row.maximum || (x[j] == row.maximum && key < row.max_key)) {
      row.maximum = x[j];
      row.max_key = key;
    }
    if (x[j] < row.cut) continue;
    values[n] = x[j];
    keys[n++] = static_cast<Candidates<float>::Key>(key);
  }
  row.candidates.resize(n);
  sweep.least[r] = least_of_interest(row, sweep.reference[r]);
}

inline void sweep_rows(RunningSweep<float>& sweep, const float* HWY_RESTRICT scores, std::int64_t first_key,
                       std::int64_t first_row, std::int64_t end_row) {
  const hn::ScalableTag<float> d;
  constexpr std::int64_t kStep = hn::MaxLanes(d);
  const auto factor = hn::Set(d, sweep.factor), lowest = hn::Set(d, smallest_exponent(float{}));
  auto* hits = reinterpret_cast<std::uint8_t*>(sweep.hits);
  for (std::int64_t r = first_row; r < end_row; ++r) {
    const float* row = scores + r * kPieceKeys;
    const auto reference = hn::Set(d, sweep.reference[r]), least = hn::Set(d, sweep.least[r]);
    for (std::int64_t lane = 0; lane < RunningSweep<float>::kLanes; lane += kStep) {
      // The two are added first: half as many additions one after another (sum_roundings).
      const auto x0 = hn::MulSub(hn::Load(d, row + lane), factor, reference);
      const auto x1 = hn::MulSub(hn::Load(d, row + lane + RunningSweep<float>::kLanes), factor, reference);
      hn::StoreMaskBits(d, hn::Ge(x0, least), hits + 4 * r + lane / 8);
      hn::StoreMaskBits(d, hn::Ge(x1, least), hits + 4 * r + (lane + RunningSweep<float>::kLanes) / 8);
      const auto p0 = Exp2OfClamped(d, hn::Max(x0, lowest)), p1 = Exp2OfClamped(d, hn::Max(x1, lowest));
      hn::Store(hn::Add(hn::Load(d, sweep.sums[r] + lane), hn::Add(p0, p1)), d, sweep.sums[r] + lane);
    }
  }
  if (end_row < sweep.rows) return;
  // All rows at once: which of them have hits is hard to foretell, how many is less so.
  const hn::Repartition<std::uint32_t, decltype(d)> du;
  static_assert(kMostRows == 32);
  std::uint32_t rows;
  for (std::int64_t r = 0; r < kMostRows; r += kStep) {
    const auto any = hn::Ne(hn::Load(du, sweep.hits + r), hn::Zero(du));
    hn::StoreMaskBits(du, any, reinterpret_cast<std::uint8_t*>(&rows) + r / 8);
  }
  rows &= ~std::uint32_t{0} >> (kMostRows - sweep.rows);
  for (; rows != 0; rows &= rows - 1) {
    const int r = std::countr_zero(rows);
    take_hits(sweep, r, scores + r * kPieceKeys, first_key);
  }
}

inline std::uint32_t close_sweep(RunningSweep<float>& sweep, const SweepRequest& request) {
  const hn::CappedTag<float, RunningSweep<float>::kLanes> d;
  std::uint32_t again = 0;
  for (std::int64_t r = 0; r < sweep.rows; ++r) {
    RowState<float>* row = sweep.states[r];
    if (row == nullptr) continue;
    if (row->maximum - sweep.reference[r] > kMostAbove) {
      row->maximum = sweep.maximum_before[r];
      row->max_key = sweep.max_key_before[r];
      row->candidates.resize(sweep.candidates_before[r]);
      again |= 1u << r;
      continue;
    }
    auto sum = hn::Load(d, sweep.sums[r]);
    for (std::int64_t lane = hn::MaxLanes(d); lane < RunningSweep<float>::kLanes; lane += hn::MaxLanes(d))
      sum = hn::Add(sum, hn::Load(d, sweep.sums[r] + lane));
    row->sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
    raise_reference(*row);
    raise_cut(*row, request);
  }
  return again;
}

#endif

// Nothing, but for vectors of floats that are long enough.
template <class T>
struct PieceSweep {
  static constexpr void (*kOpen)(RunningSweep<T>&) = nullptr;
  static constexpr SweepRows<T> kRows = nullptr;
  static constexpr std::uint32_t (*kClose)(RunningSweep<T>&, const SweepRequest&) = nullptr;
};
#if HWY_MAX_BYTES >= 32
template <>
struct PieceSweep<float> {
  static constexpr void (*kOpen)(RunningSweep<float>&) = open_sweep;
  static constexpr SweepRows<float> kRows = sweep_rows;
  static constexpr std::uint32_t (*kClose)(RunningSweep<float>&, const SweepRequest&) = close_sweep;
};
#endif

}  // namespace ag::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
