// SPDX-License-Identifier: Apache-2.0
#include "scores.hpp"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "exact/scores.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h: this is what it compiles again and again.
#include <hwy/highway.h>

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace ag::exact::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// load(i) is the vector of key values [i, i + lanes).
template <class Load>
HWY_INLINE DotAndSize dot_of(const double* query, std::int64_t whole, Load&& load) {
  const hn::ScalableTag<double> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  auto dot = hn::Zero(d), size = hn::Zero(d);
  for (std::int64_t i = 0; i < whole; i += step) {
    const auto q = hn::LoadU(d, query + i);
    const auto k = load(i);
    dot = hn::MulAdd(q, k, dot);
    size = hn::MulAdd(hn::Abs(q), hn::Abs(k), size);
  }
  return {hn::GetLane(hn::SumOfLanes(d, dot)), hn::GetLane(hn::SumOfLanes(d, size))};
}

DotAndSize dot_in_double(const double* query, const void* key, DType dtype, std::int64_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t whole = n / step * step;
  DotAndSize sum{0, 0};
  switch (dtype) {
    case DType::kF64:
      sum = dot_of(query, whole,
                   [&](std::int64_t i) HWY_ATTR { return hn::LoadU(d, static_cast<const double*>(key) + i); });
      break;
    case DType::kF32:
      sum = dot_of(query, whole, [&](std::int64_t i) HWY_ATTR {
        return hn::PromoteTo(d, hn::LoadU(df, static_cast<const float*>(key) + i));
      });
      break;
#if HWY_TARGET != HWY_SCALAR
    case DType::kF16: {
      const hn::Rebind<hwy::float16_t, decltype(d)> d16;
      sum = dot_of(query, whole, [&](std::int64_t i) HWY_ATTR {
        return hn::PromoteTo(d, hn::PromoteTo(df, hn::LoadU(d16, static_cast<const hwy::float16_t*>(key) + i)));
      });
      break;
    }
    case DType::kBF16: {
      const hn::Rebind<hwy::bfloat16_t, decltype(d)> d16;
      sum = dot_of(query, whole, [&](std::int64_t i) HWY_ATTR {
        return hn::PromoteTo(d, hn::PromoteTo(df, hn::LoadU(d16, static_cast<const hwy::bfloat16_t*>(key) + i)));
      });
      break;
    }
#endif
    default: whole = 0;
  }
  const auto* p = static_cast<const char*>(key);
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t i = whole; i < n; ++i) {
    const double k = load_double(dtype, p + i * size);
    sum.dot += query[i] * k;
    sum.size += std::abs(query[i] * k);
  }
  return sum;
}

}  // namespace ag::exact::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ag::exact {

HWY_EXPORT(dot_in_double);

DotAndSize dot_in_double(const double* query, const void* key, DType dtype, std::int64_t d) {
  return HWY_DYNAMIC_DISPATCH(dot_in_double)(query, key, dtype, d);
}

}  // namespace ag::exact
#endif
