// SPDX-License-Identifier: Apache-2.0
// The functions that -fsanitize=thread calls. Host code in the same files is instrumented too: only kernels are looked
// at.
#include <cstddef>
#include <cstdint>

#include "checker.hpp"

#define ATTNGRAPH_CHECKED(name, bytes, write)                                                           \
  void __tsan_##name(void* p) {                                                                         \
    if (ag::emu::t_checks) ag::emu::Checker::get().touch(p, bytes, write, __builtin_return_address(0)); \
  }
#define ATTNGRAPH_CHECKED_SIZES(bytes)                   \
  ATTNGRAPH_CHECKED(read##bytes, bytes, false)           \
  ATTNGRAPH_CHECKED(write##bytes, bytes, true)           \
  ATTNGRAPH_CHECKED(unaligned_read##bytes, bytes, false) \
  ATTNGRAPH_CHECKED(unaligned_write##bytes, bytes, true) \
  ATTNGRAPH_CHECKED(volatile_read##bytes, bytes, false)  \
  ATTNGRAPH_CHECKED(volatile_write##bytes, bytes, true)

// Of the host: kernels have CUDA's atomics, which the emulator reports itself.
#define ATTNGRAPH_ATOMICS(bits, T)                                                                                  \
  T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }           \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }           \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }   \
  T __tsan_atomic##bits##_fetch_xor(volatile T* p, T v, int) { return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST); } \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T v, int, int) {                    \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ? 1 : 0;          \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T v, int, int) {                      \
    return __atomic_compare_exchange_n(p, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ? 1 : 0;           \
  }                                                                                                                 \
  T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T expected, T v, int, int) {                          \
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                        \
    return expected;                                                                                                \
  }

extern "C" {

ATTNGRAPH_CHECKED_SIZES(1)
ATTNGRAPH_CHECKED_SIZES(2)
ATTNGRAPH_CHECKED_SIZES(4)
ATTNGRAPH_CHECKED_SIZES(8)
ATTNGRAPH_CHECKED_SIZES(16)

void __tsan_read_range(void* p, std::size_t bytes) {
  if (ag::emu::t_checks) ag::emu::Checker::get().touch(p, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(void* p, std::size_t bytes) {
  if (ag::emu::t_checks) ag::emu::Checker::get().touch(p, bytes, true, __builtin_return_address(0));
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

ATTNGRAPH_ATOMICS(8, std::uint8_t)
ATTNGRAPH_ATOMICS(16, std::uint16_t)
ATTNGRAPH_ATOMICS(32, std::uint32_t)
ATTNGRAPH_ATOMICS(64, std::uint64_t)

}  // extern "C"
