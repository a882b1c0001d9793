// SPDX-License-Identifier: Apache-2.0
// Atomics under CUDA's names: plain reads and writes, since threads switch at known places only; before each, another
// thread may run first. The race checker hears of them from before_atomic and must not see the plain accesses.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../sync.hpp"

namespace ag::emu {

template <class T, class F>
__attribute__((noinline, no_sanitize("thread"))) T atomic(T* p, Site site, F change) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
  before_atomic(p, sizeof(T), site);
  const T old = *p;
  *p = change(old);
  return old;
}

template <class T, class... Allowed>
inline constexpr bool kIsOneOf = (std::is_same_v<T, Allowed> || ...);

// The types that CUDA's atomics take.
using Ull = unsigned long long;
template <class T>
using IfAdds = std::enable_if_t<kIsOneOf<T, int, unsigned, Ull, float, double>, T>;
template <class T>
using IfCompares = std::enable_if_t<kIsOneOf<T, int, unsigned, Ull, long long>, T>;
template <class T>
using IfBits = std::enable_if_t<kIsOneOf<T, int, unsigned, Ull>, T>;
template <class T>
using IfExchanges = std::enable_if_t<kIsOneOf<T, int, unsigned, Ull, float>, T>;
template <class T>
using IfSwaps = std::enable_if_t<kIsOneOf<T, int, unsigned, Ull, unsigned short>, T>;
template <class T>
using Same = std::type_identity_t<T>;

// Integers wrap.
template <class T>
T wrapping_add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return a + b;
  }
}

}  // namespace ag::emu

#define ATTNGRAPH_EMU_ATOMIC(name, Types, expression)                                                         \
  template <class T>                                                                                          \
  ag::emu::Types<T> name(T* p, ag::emu::Same<T> value, ag::emu::Site site = ag::emu::Site::here()) {          \
    return ag::emu::atomic(                                                                                   \
        p, site, [value](T old) __attribute__((no_sanitize("thread")))->T { return expression; });            \
  }                                                                                                           \
  template <class T>                                                                                          \
  ag::emu::Types<T> name##_block(T* p, ag::emu::Same<T> value, ag::emu::Site site = ag::emu::Site::here()) {  \
    return name(p, value, site);                                                                              \
  }                                                                                                           \
  template <class T>                                                                                          \
  ag::emu::Types<T> name##_system(T* p, ag::emu::Same<T> value, ag::emu::Site site = ag::emu::Site::here()) { \
    return name(p, value, site);                                                                              \
  }

ATTNGRAPH_EMU_ATOMIC(atomicAdd, IfAdds, ag::emu::wrapping_add(old, value))
ATTNGRAPH_EMU_ATOMIC(atomicMin, IfCompares, value < old ? value : old)
ATTNGRAPH_EMU_ATOMIC(atomicMax, IfCompares, value > old ? value : old)
ATTNGRAPH_EMU_ATOMIC(atomicAnd, IfBits, static_cast<T>(old& value))
ATTNGRAPH_EMU_ATOMIC(atomicOr, IfBits, static_cast<T>(old | value))
ATTNGRAPH_EMU_ATOMIC(atomicXor, IfBits, static_cast<T>(old ^ value))
ATTNGRAPH_EMU_ATOMIC(atomicExch, IfExchanges, (static_cast<void>(old), value))
#undef ATTNGRAPH_EMU_ATOMIC

inline int atomicSub(int* p, int value, ag::emu::Site site = ag::emu::Site::here()) {
  return atomicAdd(p, static_cast<int>(0u - static_cast<unsigned>(value)), site);
}
inline unsigned atomicSub(unsigned* p, unsigned value, ag::emu::Site site = ag::emu::Site::here()) {
  return atomicAdd(p, 0u - value, site);
}
inline unsigned atomicInc(unsigned* p, unsigned limit, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::atomic(p, site, [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}
inline unsigned atomicDec(unsigned* p, unsigned limit, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::atomic(p, site, [limit](unsigned old) { return old == 0 || old > limit ? limit : old - 1; });
}
template <class T>
ag::emu::IfSwaps<T> atomicCAS(T* p, ag::emu::Same<T> compare, ag::emu::Same<T> value,
                              ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::atomic(p, site, [compare, value](T old) -> T { return old == compare ? value : old; });
}
