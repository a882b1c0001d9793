// SPDX-License-Identifier: Apache-2.0
// Sums over queries, by key and by distance: what the second pass over the scores is for. Compiled once per instruction
// set.
#if defined(ATTNGRAPH_CPU_QUERY_SUMS_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTNGRAPH_CPU_QUERY_SUMS_INL_HPP
#undef ATTNGRAPH_CPU_QUERY_SUMS_INL_HPP
#else
#define ATTNGRAPH_CPU_QUERY_SUMS_INL_HPP
#endif

#include <hwy/highway.h>

#include <limits>
#include <type_traits>

#include "exp2-inl.hpp"
#include "kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace ag::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// add(lane, values): the lanes of v as doubles, those from `lane` on.
template <class T, class Add>
HWY_INLINE void as_doubles(hn::Vec<hn::ScalableTag<T>> v, Add&& add) {
  if constexpr (std::is_same_v<T, double>) {
    add(0, v);
  } else {
    const hn::ScalableTag<double> dd;
#if HWY_TARGET == HWY_SCALAR  // it has no halves
    add(0, hn::PromoteTo(dd, v));
#else
    const hn::Half<hn::ScalableTag<float>> half;
    add(0, hn::PromoteTo(dd, hn::LowerHalf(half, v)));
    add(static_cast<std::int64_t>(hn::Lanes(dd)), hn::PromoteTo(dd, hn::UpperHalf(half, v)));
#endif
  }
}

template <class T>
void add_masses(const T* HWY_RESTRICT x, std::int64_t count, T reference, T rest, double* HWY_RESTRICT received,
                double* HWY_RESTRICT distances) {
  const hn::ScalableTag<T> d;
  const hn::ScalableTag<double> dd;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d)), doubles = static_cast<std::int64_t>(hn::Lanes(dd));
  const auto masked = hn::Set(d, -std::numeric_limits<T>::infinity());
  const auto weights_at = [&](std::int64_t j) HWY_ATTR {
    const auto v = hn::Load(d, x + j);
    const auto weight = Exp2(d, hn::Sub(hn::Sub(v, hn::Set(d, reference)), hn::Set(d, rest)));
    return hn::IfThenElseZero(hn::Ne(v, masked), weight);
  };
  std::int64_t j = 0;
  for (; j + step <= count; j += step) {
    as_doubles<T>(weights_at(j), [&](std::int64_t lane, auto weights) HWY_ATTR {
      if (received != nullptr) {
        double* at = received + j + lane;
        hn::StoreU(hn::Add(hn::LoadU(dd, at), weights), dd, at);
      }
      if (distances != nullptr) {
        double* at = distances - (j + lane + doubles - 1);
        hn::StoreU(hn::Add(hn::LoadU(dd, at), hn::Reverse(dd, weights)), dd, at);
      }
    });
  }
  if (j == count) return;
  HWY_ALIGN T last[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(weights_at(j), d, last);
  for (std::int64_t n = 0; n < count - j; ++n) {
    if (received != nullptr) received[j + n] += static_cast<double>(last[n]);
    if (distances != nullptr) distances[-(j + n)] += static_cast<double>(last[n]);
  }
}

}  // namespace ag::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
