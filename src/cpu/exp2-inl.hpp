// SPDX-License-Identifier: Apache-2.0
// 2^x for x <= 0, compiled once per instruction set. No include guard in the usual sense: foreach_target.h includes
// this file again and again.
#if defined(ATTNGRAPH_CPU_EXP2_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTNGRAPH_CPU_EXP2_INL_HPP
#undef ATTNGRAPH_CPU_EXP2_INL_HPP
#else
#define ATTNGRAPH_CPU_EXP2_INL_HPP
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ag::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Below it 2^x stands for 0: 2^-126 of the largest weight is lost in any sum that holds that weight.
HWY_INLINE constexpr float smallest_exponent(float) { return -126.0f; }
HWY_INLINE constexpr double smallest_exponent(double) { return -1022.0; }

// Relative error below 1.3 * 2^-24, rounding included. Round to nearest by a magic number: 1.5 * 2^23 leaves the
// integer in the low mantissa bits, from where one shift puts it into the exponent. The polynomial is the relative
// minimax of degree 5 on [-0.5, 0.5] (7.5e-8).
//
// x >= smallest_exponent.
template <class D>
HWY_INLINE hn::Vec<D> Exp2OfClamped(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  if constexpr (sizeof(T) == 8) {
    return hn::Exp(d, hn::Mul(x, hn::Set(d, 0.693147180559945309417)));
  } else {
    const hn::RebindToSigned<D> di;
    const auto magic = hn::Set(d, 0x1.8p23f);
    const auto shifted = hn::Add(x, magic);
    const auto f = hn::Sub(x, hn::Sub(shifted, magic));
    auto p = hn::Set(d, 0x1.5c08e6p-10f);
    p = hn::MulAdd(p, f, hn::Set(d, 0x1.3d0c52p-7f));
    p = hn::MulAdd(p, f, hn::Set(d, 0x1.c6b6e4p-5f));
    p = hn::MulAdd(p, f, hn::Set(d, 0x1.ebf918p-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 0x1.62e428p-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 0x1.000002p+0f));
    return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
  }
}

template <class D>
HWY_INLINE hn::Vec<D> Exp2(D d, hn::Vec<D> x) {
  return Exp2OfClamped(d, hn::Max(x, hn::Set(d, smallest_exponent(hn::TFromD<D>{}))));
}

}  // namespace ag::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
