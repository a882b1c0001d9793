// SPDX-License-Identifier: Apache-2.0
// The kernels of kernels.hpp, compiled once per instruction set by kernels.cpp.
#if defined(ATTNGRAPH_CPU_KERNELS_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTNGRAPH_CPU_KERNELS_INL_HPP
#undef ATTNGRAPH_CPU_KERNELS_INL_HPP
#else
#define ATTNGRAPH_CPU_KERNELS_INL_HPP
#endif

#include <hwy/contrib/algo/find-inl.h>
#include <hwy/highway.h>

#include <bit>
#include <cmath>

#include "exp2-inl.hpp"
#include "kernels.hpp"
#include "product-inl.hpp"
#include "query_sums-inl.hpp"
#include "running_sweep-inl.hpp"
#include "target_name.hpp"
#include "tighten-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace ag::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
void unpack_row(const void* row, DType dtype, std::int64_t stride, std::int64_t n, T* out) {
#if HWY_TARGET != HWY_SCALAR  // whose f16 has no NaN and no infinity
  if constexpr (std::is_same_v<T, float>) {
    if (stride == 1 && (dtype == DType::kF16 || dtype == DType::kBF16)) {
      const hn::ScalableTag<float> d;
      const std::int64_t step = lanes<float>();
      std::int64_t i = 0;
      for (; i + step <= n; i += step) {
        if (dtype == DType::kF16) {
          const hn::Rebind<hwy::float16_t, decltype(d)> d16;
          hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, static_cast<const hwy::float16_t*>(row) + i)), d, out + i);
        } else {
          const hn::Rebind<hwy::bfloat16_t, decltype(d)> d16;
          hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, static_cast<const hwy::bfloat16_t*>(row) + i)), d, out + i);
        }
      }
      for (; i < n; ++i) {
        const auto* p = static_cast<const char*>(row) + 2 * i;
        out[i] = dtype == DType::kF16 ? to_float(load_as<F16>(p)) : to_float(load_as<BF16>(p));
      }
      return;
    }
  }
#endif
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const auto* p = static_cast<const char*>(row);
  if (n > 0 && stride == 1 && size == static_cast<std::int64_t>(sizeof(T))) {  // no keys: out may be null
    std::memcpy(out, p, static_cast<std::size_t>(n) * sizeof(T));
    return;
  }
  for (std::int64_t i = 0; i < n; ++i, p += stride * size) out[i] = static_cast<T>(load_double(dtype, p));
}

template <class T>
double squared_norm(const T* x, std::int64_t n) {
  // Plain: it runs once per row of the input, and double sums keep the square of any float finite.
  double even = 0, odd = 0;
  std::int64_t i = 0;
  for (; i + 2 <= n; i += 2) {
    even += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    odd += static_cast<double>(x[i + 1]) * static_cast<double>(x[i + 1]);
  }
  if (i < n) even += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return even + odd;
}

template <class T>
void softcap(T* x, std::int64_t n, T cap) {
  const hn::ScalableTag<T> d;
  for (std::int64_t i = 0; i < n; i += lanes<T>())
    hn::Store(hn::Mul(hn::Set(d, cap), hn::Tanh(d, hn::Load(d, x + i))), d, x + i);
}

template <class T>
void alibi(T* x, std::int64_t n, T slope, std::int64_t distance) {
  const hn::ScalableTag<T> d;
  const auto falls = hn::Set(d, slope), lane = hn::Iota(d, 0);
  for (std::int64_t i = 0; i < n; i += lanes<T>()) {
    // Whole numbers: exact in float below 2^24.
    const auto apart = hn::Abs(hn::Sub(hn::Set(d, static_cast<T>(distance - i)), lane));
    hn::Store(hn::NegMulAdd(falls, apart, hn::Load(d, x + i)), d, x + i);
  }
}

template <bool kEntropy, class T>
HWY_INLINE void add_strip(const T* HWY_RESTRICT x, std::int64_t width, RowState<T>& row) {
  const hn::ScalableTag<T> d;
  const std::int64_t step = lanes<T>();
  const auto reference = hn::Set(d, row.reference);
  const auto lowest = hn::Set(d, smallest_exponent(T{}));
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), weighted0 = hn::Zero(d), weighted1 = hn::Zero(d);
  for (std::int64_t j = 0; j < width; j += 2 * step) {
    // Clamped once for both: the exponential's argument, and a factor that a masked key's -inf would turn into NaN.
    const auto t0 = hn::Max(hn::Sub(hn::Load(d, x + j), reference), lowest);
    const auto t1 = hn::Max(hn::Sub(hn::Load(d, x + j + step), reference), lowest);
    const auto p0 = Exp2OfClamped(d, t0);
    const auto p1 = Exp2OfClamped(d, t1);
    sum0 = hn::Add(sum0, p0);
    sum1 = hn::Add(sum1, p1);
    if constexpr (kEntropy) {
      weighted0 = hn::MulAdd(p0, t0, weighted0);
      weighted1 = hn::MulAdd(p1, t1, weighted1);
    }
  }
  row.sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1))));
  if constexpr (kEntropy)
    row.weighted += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(weighted0, weighted1))));
}

// take(j) for every x[j] >= cut, ascending; n is a multiple of the vector, at most kStripKeys. Hits are few and
// scattered, so no branch follows a single comparison: all become one bit each, and the bits that are set are visited.
template <class T, class Take>
HWY_INLINE void for_each_hit(const T* HWY_RESTRICT x, std::int64_t n, T cut, Take&& take) {
  const hn::ScalableTag<T> d;
  if constexpr (hn::MaxLanes(d) >= 8) {
    std::uint64_t words[kStripKeys<T> / 64];
    auto* bytes = reinterpret_cast<std::uint8_t*>(words);
    const std::int64_t word_count = (n + 63) / 64;
    words[word_count - 1] = 0;  // n may end within it
    for (std::int64_t j = 0; j < n; j += lanes<T>()) {
      hn::StoreMaskBits(d, hn::Ge(hn::LoadU(d, x + j), hn::Set(d, cut)), bytes + j / 8);
    }
    for (std::int64_t w = 0; w < word_count; ++w) {
      for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1) take(64 * w + std::countr_zero(bits));
    }
  } else {
    for (std::int64_t j = 0; j < n; ++j) {
      if (x[j] >= cut) take(j);
    }
  }
}

template <class T>
HWY_INLINE void append_candidates(const StripRow<T>& strip, bool whole_first_strip) {
  RowState<T>& row = *strip.state;
  T* scores = row.candidates.scores();
  auto* keys = row.candidates.keys();
  std::int64_t n = row.candidates.size();
  if (whole_first_strip && row.review_at == 0) {
    std::copy_n(strip.scores, strip.width, scores + n);
    for (std::int64_t j = 0; j < strip.width; ++j)
      keys[n + j] = static_cast<typename Candidates<T>::Key>(strip.first_key + j);
    row.candidates.resize(n + strip.width);
    return;
  }
  for_each_hit(strip.scores, strip.width, row.cut, [&](std::int64_t j) {
    scores[n] = strip.scores[j];
    keys[n++] = static_cast<typename Candidates<T>::Key>(strip.first_key + j);
  });
  row.candidates.resize(n);
}

template <class T>
HWY_INLINE T maximum_of(const T* HWY_RESTRICT x, std::int64_t width) {
  const hn::ScalableTag<T> d;
  const std::int64_t step = lanes<T>();
  auto max0 = hn::Load(d, x), max1 = hn::Load(d, x + step);
  for (std::int64_t j = 2 * step; j < width; j += 2 * step) {
    max0 = hn::Max(max0, hn::Load(d, x + j));
    max1 = hn::Max(max1, hn::Load(d, x + j + step));
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(max0, max1)));
}

// The strip holds a new maximum of the row: find its key, and move the reference of the sums if need be.
template <class T>
HWY_NOINLINE void raise_maximum(const StripRow<T>& strip, T strip_max) {
  const hn::ScalableTag<T> d;
  RowState<T>& row = *strip.state;
  std::int64_t j = 0;
  while (hn::AllFalse(d, hn::Eq(hn::Load(d, strip.scores + j), hn::Set(d, strip_max)))) j += lanes<T>();
  row.max_key =
      strip.first_key + j + hn::FindFirstTrue(d, hn::Eq(hn::Load(d, strip.scores + j), hn::Set(d, strip_max)));
  row.maximum = strip_max;
  raise_reference(row);
}

// Pass by pass over all rows of a block, so that the processor can begin a row while the last one's lanes are being
// reduced; row by row it would wait at every branch.
template <class T>
void sweep(const StripRow<T>* strips, std::int64_t count, const SweepRequest& request) {
  constexpr T kNone = -std::numeric_limits<T>::infinity();  // nothing of the strip is allowed
  T maxima[kMostRows];
  for (std::int64_t n = 0; n < count; ++n) maxima[n] = maximum_of(strips[n].scores, strips[n].width);
  for (std::int64_t n = 0; n < count; ++n) {
    const RowState<T>& row = *strips[n].state;
    if (maxima[n] == kNone) continue;
    if (maxima[n] > row.maximum || (maxima[n] == row.maximum && strips[n].first_key < row.max_key)) {
      raise_maximum(strips[n], maxima[n]);
    }
  }
  if (request.sum) {
    for (std::int64_t n = 0; n < count; ++n) {
      if (maxima[n] == kNone) continue;
      RowState<T>& row = *strips[n].state;
      if (request.entropy) {
        add_strip<true>(strips[n].scores, strips[n].width, row);
      } else {
        add_strip<false>(strips[n].scores, strips[n].width, row);
      }
      if (request.own_cut) raise_cut(row, request);
    }
  }
  for (std::int64_t n = 0; n < count; ++n) {
    RowState<T>& row = *strips[n].state;
    if (maxima[n] >= row.cut) append_candidates(strips[n], request.selects());
    if (!request.selects() || maxima[n] == kNone) continue;
    row.seen += strips[n].width;
    if (row.candidates.size() >= row.review_at) tighten(row, request, false);
  }
}

template <class T>
void weights(const T* x, std::int64_t n, T reference, double rest, double* out) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<T, decltype(d)> dt;
  for (std::int64_t i = 0; i < n; i += lanes<double>()) {
    hn::Vec<decltype(d)> value;
    if constexpr (std::is_same_v<T, float>) {
      value = hn::PromoteTo(d, hn::LoadU(dt, x + i));
    } else {
      value = hn::LoadU(dt, x + i);
    }
    const auto above = hn::Sub(value, hn::Set(d, static_cast<double>(reference)));
    const auto log_weight = hn::Sub(hn::Mul(above, hn::Set(d, 0.693147180559945309417)), hn::Set(d, rest));
    hn::StoreU(hn::Exp(d, log_weight), d, out + i);
  }
}

// Sum of the lanes of v, added to a double sum lane by lane.
template <class T>
HWY_INLINE hn::Vec<hn::ScalableTag<double>> add_promoted(hn::Vec<hn::ScalableTag<double>> sum,
                                                         hn::Vec<hn::ScalableTag<T>> v) {
  if constexpr (std::is_same_v<T, double>) {
    return hn::Add(sum, v);
  } else {
    const hn::ScalableTag<double> dd;
#if HWY_TARGET == HWY_SCALAR  // it has no halves
    return hn::Add(sum, hn::PromoteTo(dd, v));
#else
    const hn::Half<hn::ScalableTag<float>> dh;
    return hn::Add(sum, hn::Add(hn::PromoteTo(dd, hn::LowerHalf(dh, v)), hn::PromoteTo(dd, hn::UpperHalf(dh, v))));
#endif
  }
}

// With kMasked, -inf stands for a masked entry; otherwise it is a value like any other and spoils the sum, which gives
// it away. Memory sets the pace: one branch for four vectors.
template <bool kMasked, class T>
HWY_INLINE std::int64_t threshold_span(const T* HWY_RESTRICT x, std::int64_t n, std::int64_t first_key, T cut,
                                       std::int32_t* keys, T* values, double* sum, T* maximum) {
  const hn::ScalableTag<T> d;
  const hn::ScalableTag<double> dd;
  const std::int64_t step = lanes<T>();
  const T masked = -std::numeric_limits<T>::infinity();
  const auto allowed = [&](hn::Vec<decltype(d)> v) HWY_ATTR {
    if constexpr (kMasked) return hn::IfThenElseZero(hn::Ne(v, hn::Set(d, masked)), v);
    return v;
  };
  auto total0 = hn::Zero(dd), total1 = hn::Zero(dd);
  auto largest = hn::Set(d, *maximum);
  double rest = 0;
  T top = masked;
  std::int64_t found = 0;
  const auto take = [&](std::int64_t j) {
    values[found] = x[j];
    keys[found++] = static_cast<std::int32_t>(first_key + j);
  };
  std::int64_t j = 0;
  for (; j + 4 * step <= n; j += 4 * step) {
    const auto v0 = hn::LoadU(d, x + j), v1 = hn::LoadU(d, x + j + step);
    const auto v2 = hn::LoadU(d, x + j + 2 * step), v3 = hn::LoadU(d, x + j + 3 * step);
    const auto high = hn::Max(hn::Max(v0, v1), hn::Max(v2, v3));
    largest = hn::Max(largest, high);
    total0 = add_promoted<T>(add_promoted<T>(total0, allowed(v0)), allowed(v1));
    total1 = add_promoted<T>(add_promoted<T>(total1, allowed(v2)), allowed(v3));
    if (hn::AllFalse(d, hn::Ge(high, hn::Set(d, cut)))) continue;
    for_each_hit(x + j, 4 * step, cut, [&](std::int64_t c) { take(j + c); });
  }
  for (; j < n; ++j) {
    if (kMasked && x[j] == masked) continue;
    rest += static_cast<double>(x[j]);
    top = x[j] > top ? x[j] : top;
    if (x[j] >= cut) take(j);
  }
  *sum += hn::GetLane(hn::SumOfLanes(dd, hn::Add(total0, total1))) + rest;
  *maximum = std::max(top, hn::GetLane(hn::MaxOfLanes(d, largest)));
  return found;
}

template <class T>
std::int64_t threshold_row(const T* x, std::int64_t n, std::int64_t first_key, T cut, bool masked, std::int32_t* keys,
                           T* values, double* sum, T* maximum) {
  return masked ? threshold_span<true>(x, n, first_key, cut, keys, values, sum, maximum)
                : threshold_span<false>(x, n, first_key, cut, keys, values, sum, maximum);
}

template <class T>
std::int64_t index_of(const T* x, std::int64_t n, T value) {
  return static_cast<std::int64_t>(hn::Find(hn::ScalableTag<T>(), value, x, static_cast<std::size_t>(n)));
}

template <class T>
double entropy_row(const T* x, std::int64_t n) {
  const hn::ScalableTag<double> d;
  auto total = hn::Zero(d);
  HWY_ALIGN double w[HWY_MAX_BYTES / sizeof(double)];
  for (std::int64_t j = 0; j < n; j += lanes<double>()) {
    for (std::int64_t c = 0; c < lanes<double>(); ++c) {
      const bool counts = j + c < n && x[j + c] > T{0};
      w[c] = counts ? static_cast<double>(x[j + c]) : 1.0;  // ln 1 == 0
    }
    const auto v = hn::Load(d, w);
    total = hn::Add(total, hn::Mul(v, hn::Log(d, v)));
  }
  return -hn::GetLane(hn::SumOfLanes(d, total));
}

template <class T>
const Kernels<T>& table() {
  static const Kernels<T> kTable{target_name(HWY_TARGET),
                                 kRows,
                                 2 * lanes<T>(),
                                 static_cast<double>(kStripKeys<T>) / static_cast<double>(2 * lanes<T>()) + 1 +
                                     std::log2(static_cast<double>(lanes<T>())),
                                 whole_depth,
                                 whole_depth,
                                 chain_roundings,
                                 0,
                                 false,
                                 unpack_row<T>,
                                 squared_norm<T>,
                                 pack_panel<T>,
                                 pack_query<T>,
                                 score_strip<T>,
                                 score_few_of<T, T>,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 softcap<T>,
                                 alibi<T>,
                                 sweep<T>,
                                 PieceSweep<T>::kOpen,
                                 PieceSweep<T>::kRows,
                                 PieceSweep<T>::kClose,
                                 tighten<T>,
                                 holds_mass<T>,
                                 add_masses<T>,
                                 weights<T>};
  return kTable;
}

template <class T>
const MatrixKernels<T>& matrix_table() {
  static const MatrixKernels<T> kTable{unpack_row<T>, threshold_row<T>, index_of<T>, entropy_row<T>};
  return kTable;
}

// HWY_EXPORT takes plain functions.
const Kernels<float>& table_f32() { return table<float>(); }
const Kernels<double>& table_f64() { return table<double>(); }
const MatrixKernels<float>& matrix_table_f32() { return matrix_table<float>(); }
const MatrixKernels<double>& matrix_table_f64() { return matrix_table<double>(); }
int registers_of_target() { return kVectorRegisters; }

}  // namespace ag::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
