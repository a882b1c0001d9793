// SPDX-License-Identifier: Apache-2.0
// Barriers, fences and warp collectives under CUDA's names. The last parameter is the place of the call; leave it out.
#pragma once

#include "../shared.hpp"
#include "../sync.hpp"

inline std::size_t __cvta_generic_to_shared(const void* p, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::to_shared_window(p, site);
}

inline void __syncthreads(ag::emu::Site site = ag::emu::Site::here()) { ag::emu::block_barrier(site); }
inline int __syncthreads_count(int predicate, ag::emu::Site site = ag::emu::Site::here()) {
  return static_cast<int>(ag::emu::block_count(predicate != 0, site));
}
inline int __syncthreads_or(int predicate, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::block_count(predicate != 0, site) != 0 ? 1 : 0;
}
inline int __syncthreads_and(int predicate, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::block_count(predicate == 0, site) == 0 ? 1 : 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, ag::emu::Site site = ag::emu::Site::here()) {
  ag::emu::sync_warp(mask, site);
}

inline void __threadfence() { ag::emu::memory_fence(); }
inline void __threadfence_block() { ag::emu::memory_fence(); }
inline void __threadfence_system() { ag::emu::memory_fence(); }
inline void __nanosleep(unsigned) { ag::emu::yield_thread(); }
inline long long clock64() { return ag::emu::thread_clock(); }
[[noreturn]] inline void __trap(ag::emu::Site site = ag::emu::Site::here()) { ag::emu::fail_kernel(site, "__trap()"); }

inline unsigned __activemask() { return ag::emu::active_mask(); }
inline unsigned __ballot_sync(unsigned mask, int predicate, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::ballot(mask, predicate != 0, site) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::ballot(mask, predicate == 0, site) == 0 ? 1 : 0;
}

namespace ag::emu {
template <class T>
T shuffled(ShuffleMode mode, unsigned mask, T value, unsigned lane, int width, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8),
                "shuffles move 2, 4 or 8 bytes");
  shuffle(mode, mask, &value, sizeof value, lane, width, site);
  return value;
}
}  // namespace ag::emu

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::shuffled(ag::emu::ShuffleMode::kIndex, mask, value, static_cast<unsigned>(lane), width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::shuffled(ag::emu::ShuffleMode::kUp, mask, value, delta, width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::shuffled(ag::emu::ShuffleMode::kDown, mask, value, delta, width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::shuffled(ag::emu::ShuffleMode::kXor, mask, value, static_cast<unsigned>(lanes), width, site);
}

template <class T>
unsigned __match_any_sync(unsigned mask, T value, ag::emu::Site site = ag::emu::Site::here()) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return ag::emu::match_any(mask, bits, site);
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* same, ag::emu::Site site = ag::emu::Site::here()) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const unsigned result = ag::emu::match_all(mask, bits, site);
  *same = result != 0 ? 1 : 0;
  return result;
}

#define ATTNGRAPH_EMU_REDUCE(name, operation)                                                            \
  inline unsigned name(unsigned mask, unsigned value, ag::emu::Site site = ag::emu::Site::here()) {      \
    return ag::emu::reduce(ag::emu::Reduction::operation, false, mask, value, site);                     \
  }                                                                                                      \
  inline int name(unsigned mask, int value, ag::emu::Site site = ag::emu::Site::here()) {                \
    return static_cast<int>(                                                                             \
        ag::emu::reduce(ag::emu::Reduction::operation, true, mask, static_cast<unsigned>(value), site)); \
  }
ATTNGRAPH_EMU_REDUCE(__reduce_add_sync, kAdd)
ATTNGRAPH_EMU_REDUCE(__reduce_min_sync, kMin)
ATTNGRAPH_EMU_REDUCE(__reduce_max_sync, kMax)
#undef ATTNGRAPH_EMU_REDUCE
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::reduce(ag::emu::Reduction::kAnd, false, mask, value, site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::reduce(ag::emu::Reduction::kOr, false, mask, value, site);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, ag::emu::Site site = ag::emu::Site::here()) {
  return ag::emu::reduce(ag::emu::Reduction::kXor, false, mask, value, site);
}
