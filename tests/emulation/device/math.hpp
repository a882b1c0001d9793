// SPDX-License-Identifier: Apache-2.0
// Arithmetic under CUDA's names. Functions that the GPU approximates (__expf, __fdividef ...) are exact here: their
// error is a matter for the bounds of docs/numerics.md, not for emulation.
#pragma once

#include <math.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

// ---- bits ----

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __double2hiint(double x) { return static_cast<int>(std::bit_cast<std::uint64_t>(x) >> 32); }
inline int __double2loint(double x) { return static_cast<int>(std::bit_cast<std::uint64_t>(x) & 0xffffffffu); }
inline double __hiloint2double(int high, int low) {
  return std::bit_cast<double>(std::uint64_t{static_cast<unsigned>(high)} << 32 | static_cast<unsigned>(low));
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1; }
inline unsigned long long __brevll(unsigned long long x) {
  unsigned long long result = 0;
  for (int i = 0; i < 64; ++i) result |= (x >> i & 1u) << (63 - i);
  return result;
}
inline unsigned __brev(unsigned x) { return static_cast<unsigned>(__brevll(x) >> 32); }
// Byte i of the result is byte (selector >> 4 i) & 7 of y:x, or its sign eight times when bit 3 is set.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned pick = selector >> 4 * i & 15u;
    unsigned byte = static_cast<unsigned>(bytes >> 8 * (pick & 7u)) & 255u;
    if ((pick & 8u) != 0) byte = (byte & 128u) != 0 ? 255u : 0u;
    result |= byte << 8 * i;
  }
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) << (shift & 31u) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((std::uint64_t{high} << 32 | low) >> (shift & 31u));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }
inline int __mulhi(int a, int b) { return static_cast<int>(std::int64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(Wide{a} * b >> 64);
}

// ---- minimum and maximum, as CUDA has them in the global namespace ----

#define ATTNGRAPH_EMU_MIN_MAX(T)                             \
  inline constexpr T min(T a, T b) { return b < a ? b : a; } \
  inline constexpr T max(T a, T b) { return a < b ? b : a; }
ATTNGRAPH_EMU_MIN_MAX(int)
ATTNGRAPH_EMU_MIN_MAX(unsigned)
ATTNGRAPH_EMU_MIN_MAX(long)
ATTNGRAPH_EMU_MIN_MAX(unsigned long)
ATTNGRAPH_EMU_MIN_MAX(long long)
ATTNGRAPH_EMU_MIN_MAX(unsigned long long)
#undef ATTNGRAPH_EMU_MIN_MAX
inline float min(float a, float b) { return ::fminf(a, b); }  // of a number and NaN: the number
inline float max(float a, float b) { return ::fmaxf(a, b); }
inline double min(double a, double b) { return ::fmin(a, b); }
inline double max(double a, double b) { return ::fmax(a, b); }

// ---- rounding ----

namespace ag::emu {
// An expression under a rounding mode. The operands come as volatile, so that it is computed there and then.
template <class T, class F>
__attribute__((noinline)) T rounded(int mode, F f, T a, T b = 0, T c = 0) {
  const int before = std::fegetround();
  std::fesetround(mode);
  volatile T x = a;
  volatile T y = b;
  volatile T z = c;
  volatile T result = f(x, y, z);
  std::fesetround(before);
  return result;
}
template <class T>
__attribute__((noinline)) float to_float(int mode, T x) {
  const int before = std::fegetround();
  std::fesetround(mode);
  volatile T from = x;
  volatile float result = static_cast<float>(from);
  std::fesetround(before);
  return result;
}
// CUDA's conversions saturate; NaN becomes 0.
template <class To>
To to_integer(double x) {
  constexpr double kLow = static_cast<double>(std::numeric_limits<To>::min());
  constexpr double kEnd = 2.0 * static_cast<double>(std::numeric_limits<To>::max() / 2 + 1);
  if (std::isnan(x)) return 0;
  if (x <= kLow) return std::numeric_limits<To>::min();
  if (x >= kEnd) return std::numeric_limits<To>::max();
  return static_cast<To>(x);
}
}  // namespace ag::emu

#define ATTNGRAPH_EMU_ROUNDED(suffix, mode)                                             \
  inline float __fadd_##suffix(float a, float b) {                                      \
    return ag::emu::rounded<float>(                                                     \
        mode, [](float x, float y, float) { return x + y; }, a, b);                     \
  }                                                                                     \
  inline float __fsub_##suffix(float a, float b) {                                      \
    return ag::emu::rounded<float>(                                                     \
        mode, [](float x, float y, float) { return x - y; }, a, b);                     \
  }                                                                                     \
  inline float __fmul_##suffix(float a, float b) {                                      \
    return ag::emu::rounded<float>(                                                     \
        mode, [](float x, float y, float) { return x * y; }, a, b);                     \
  }                                                                                     \
  inline float __fdiv_##suffix(float a, float b) {                                      \
    return ag::emu::rounded<float>(                                                     \
        mode, [](float x, float y, float) { return x / y; }, a, b);                     \
  }                                                                                     \
  inline float __frcp_##suffix(float a) {                                               \
    return ag::emu::rounded<float>(                                                     \
        mode, [](float x, float, float) { return 1.0f / x; }, a);                       \
  }                                                                                     \
  inline float __fsqrt_##suffix(float a) {                                              \
    return ag::emu::rounded<float>(                                                     \
        mode, [](float x, float, float) { return ::sqrtf(x); }, a);                     \
  }                                                                                     \
  inline float __fmaf_##suffix(float a, float b, float c) {                             \
    return ag::emu::rounded<float>(                                                     \
        mode, [](float x, float y, float z) { return ::fmaf(x, y, z); }, a, b, c);      \
  }                                                                                     \
  inline double __dadd_##suffix(double a, double b) {                                   \
    return ag::emu::rounded<double>(                                                    \
        mode, [](double x, double y, double) { return x + y; }, a, b);                  \
  }                                                                                     \
  inline double __dsub_##suffix(double a, double b) {                                   \
    return ag::emu::rounded<double>(                                                    \
        mode, [](double x, double y, double) { return x - y; }, a, b);                  \
  }                                                                                     \
  inline double __dmul_##suffix(double a, double b) {                                   \
    return ag::emu::rounded<double>(                                                    \
        mode, [](double x, double y, double) { return x * y; }, a, b);                  \
  }                                                                                     \
  inline double __ddiv_##suffix(double a, double b) {                                   \
    return ag::emu::rounded<double>(                                                    \
        mode, [](double x, double y, double) { return x / y; }, a, b);                  \
  }                                                                                     \
  inline double __drcp_##suffix(double a) {                                             \
    return ag::emu::rounded<double>(                                                    \
        mode, [](double x, double, double) { return 1.0 / x; }, a);                     \
  }                                                                                     \
  inline double __dsqrt_##suffix(double a) {                                            \
    return ag::emu::rounded<double>(                                                    \
        mode, [](double x, double, double) { return ::sqrt(x); }, a);                   \
  }                                                                                     \
  inline double __fma_##suffix(double a, double b, double c) {                          \
    return ag::emu::rounded<double>(                                                    \
        mode, [](double x, double y, double z) { return ::fma(x, y, z); }, a, b, c);    \
  }                                                                                     \
  inline float __double2float_##suffix(double x) { return ag::emu::to_float(mode, x); } \
  inline float __int2float_##suffix(int x) { return ag::emu::to_float(mode, x); }       \
  inline float __uint2float_##suffix(unsigned x) { return ag::emu::to_float(mode, x); } \
  inline float __ll2float_##suffix(long long x) { return ag::emu::to_float(mode, x); }
ATTNGRAPH_EMU_ROUNDED(rn, FE_TONEAREST)
ATTNGRAPH_EMU_ROUNDED(ru, FE_UPWARD)
ATTNGRAPH_EMU_ROUNDED(rd, FE_DOWNWARD)
ATTNGRAPH_EMU_ROUNDED(rz, FE_TOWARDZERO)
#undef ATTNGRAPH_EMU_ROUNDED

#define ATTNGRAPH_EMU_TO_INTEGER(suffix, function)                                                              \
  inline int __float2int_##suffix(float x) { return ag::emu::to_integer<int>(function(double{x})); }            \
  inline unsigned __float2uint_##suffix(float x) { return ag::emu::to_integer<unsigned>(function(double{x})); } \
  inline long long __float2ll_##suffix(float x) { return ag::emu::to_integer<long long>(function(double{x})); } \
  inline int __double2int_##suffix(double x) { return ag::emu::to_integer<int>(function(x)); }                  \
  inline long long __double2ll_##suffix(double x) { return ag::emu::to_integer<long long>(function(x)); }
ATTNGRAPH_EMU_TO_INTEGER(rn, ::rint)
ATTNGRAPH_EMU_TO_INTEGER(ru, ::ceil)
ATTNGRAPH_EMU_TO_INTEGER(rd, ::floor)
ATTNGRAPH_EMU_TO_INTEGER(rz, ::trunc)
#undef ATTNGRAPH_EMU_TO_INTEGER

// ---- functions ----

inline float rsqrtf(float x) { return static_cast<float>(1.0 / ::sqrt(double{x})); }
inline double rsqrt(double x) { return 1.0 / ::sqrt(x); }
inline float exp10f(float x) { return static_cast<float>(::pow(10.0, double{x})); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // NaN becomes 0
inline float __expf(float x) { return ::expf(x); }
inline float __logf(float x) { return ::logf(x); }
inline float __log2f(float x) { return ::log2f(x); }
inline float __log10f(float x) { return ::log10f(x); }
inline float __powf(float x, float y) { return ::powf(x, y); }
inline float __tanhf(float x) { return ::tanhf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }

// ---- loads and stores with a cache policy ----

#define ATTNGRAPH_EMU_LOAD(name) \
  template <class T>             \
  T name(const T* p) {           \
    return *p;                   \
  }
ATTNGRAPH_EMU_LOAD(__ldg)
ATTNGRAPH_EMU_LOAD(__ldca)
ATTNGRAPH_EMU_LOAD(__ldcg)
ATTNGRAPH_EMU_LOAD(__ldcs)
ATTNGRAPH_EMU_LOAD(__ldcv)
ATTNGRAPH_EMU_LOAD(__ldlu)
#undef ATTNGRAPH_EMU_LOAD
#define ATTNGRAPH_EMU_STORE(name)                  \
  template <class T>                               \
  void name(T* p, std::type_identity_t<T> value) { \
    *p = value;                                    \
  }
ATTNGRAPH_EMU_STORE(__stcg)
ATTNGRAPH_EMU_STORE(__stcs)
ATTNGRAPH_EMU_STORE(__stwb)
ATTNGRAPH_EMU_STORE(__stwt)
#undef ATTNGRAPH_EMU_STORE
