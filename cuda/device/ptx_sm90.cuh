// SPDX-License-Identifier: Apache-2.0
// PTX of sm_90a: barriers in shared memory, copies of tensors, products of warpgroups. Shared addresses are 32-bit
// numbers of the shared window here: arithmetic on them is cheap, and descriptors are made of them.
#pragma once

#include <cstdint>

#include "macros.cuh"

namespace ag::cuda {

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// ---- mbarriers: 8 bytes, aligned to 8. A phase ends when `arrivals` threads have arrived and all bytes that were
// expected have come.

__device__ __forceinline__ void mbarrier_init(std::uint32_t barrier, int arrivals) {
  ATTNGRAPH_PTX_MEMORY("mbarrier.init.shared::cta.b64 [%0], %1;", (),
                       (ATTNGRAPH_IN_R(barrier), ATTNGRAPH_IN_R(arrivals)));
}

// What this thread has initialised is visible to copies that complete on it; a barrier of the block comes after.
__device__ __forceinline__ void fence_mbarrier_init() {
  ATTNGRAPH_PTX_MEMORY("fence.mbarrier_init.release.cluster;", (), ());
}

// What this thread has written to shared memory is visible to wgmma and to tensor copies.
__device__ __forceinline__ void fence_proxy_async() { ATTNGRAPH_PTX_MEMORY("fence.proxy.async.shared::cta;", (), ()); }

__device__ __forceinline__ void mbarrier_arrive(std::uint32_t barrier) {
  ATTNGRAPH_PTX_MEMORY("mbarrier.arrive.shared::cta.b64 _, [%0];", (), (ATTNGRAPH_IN_R(barrier)));
}

__device__ __forceinline__ void mbarrier_arrive_expect(std::uint32_t barrier, int bytes) {
  ATTNGRAPH_PTX_MEMORY("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;", (),
                       (ATTNGRAPH_IN_R(barrier), ATTNGRAPH_IN_R(bytes)));
}

// Until the phase of this parity has ended. Phases count from 0; of a barrier that is new, the one of parity 1 has.
__device__ __forceinline__ void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t ended;
  do {
    ATTNGRAPH_PTX_MEMORY(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }",
        (ATTNGRAPH_OUT_R(ended)), (ATTNGRAPH_IN_R(barrier), ATTNGRAPH_IN_R(parity)));
  } while (ended == 0);
}

// ---- tensor copies: the box of a map (a CUtensorMap that is a kernel's parameter) at a place, fastest dimension
// first. What lies outside of the tensor is zeros, and counts among the bytes that come.

__device__ __forceinline__ void copy_box(std::uint32_t shared, const void* map, int x, int y, int z,
                                         std::uint32_t barrier) {
  ATTNGRAPH_PTX_MEMORY(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];", (),
      (ATTNGRAPH_IN_R(shared), ATTNGRAPH_IN_L(map), ATTNGRAPH_IN_R(x), ATTNGRAPH_IN_R(y), ATTNGRAPH_IN_R(z),
       ATTNGRAPH_IN_R(barrier)));
}

__device__ __forceinline__ void copy_box(std::uint32_t shared, const void* map, int x, int y, int z, int w,
                                         std::uint32_t barrier) {
  ATTNGRAPH_PTX_MEMORY(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];",
      (),
      (ATTNGRAPH_IN_R(shared), ATTNGRAPH_IN_L(map), ATTNGRAPH_IN_R(x), ATTNGRAPH_IN_R(y), ATTNGRAPH_IN_R(z),
       ATTNGRAPH_IN_R(w), ATTNGRAPH_IN_R(barrier)));
}

// ---- registers: of a warpgroup, all of whose threads ask for the same.

template <int kRegisters>
__device__ __forceinline__ void keep_registers() {
  ATTNGRAPH_PTX_MEMORY("setmaxnreg.dec.sync.aligned.u32 %0;", (), (ATTNGRAPH_IN_N(kRegisters)));
}

template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  ATTNGRAPH_PTX_MEMORY("setmaxnreg.inc.sync.aligned.u32 %0;", (), (ATTNGRAPH_IN_N(kRegisters)));
}

// ---- wgmma: products of a warpgroup. Between the first of them and the wait nothing may touch their sums.

__device__ __forceinline__ void wgmma_fence() { ATTNGRAPH_PTX_MEMORY("wgmma.fence.sync.aligned;", (), ()); }
__device__ __forceinline__ void wgmma_commit() { ATTNGRAPH_PTX_MEMORY("wgmma.commit_group.sync.aligned;", (), ()); }

// Until at most kPending of the newest committed groups are on their way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  ATTNGRAPH_PTX_MEMORY("wgmma.wait_group.sync.aligned %0;", (), (ATTNGRAPH_IN_N(kPending)));
}

// Sums are what they are here: nothing that reads or writes them is moved across.
template <int kCount>
__device__ __forceinline__ void pin([[maybe_unused]] float (&sums)[kCount]) {
#if !defined(ATTNGRAPH_EMULATION)
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
#endif
}

// An operand of wgmma: rows of 128 bytes, swizzled as tensor copies do it, groups of 8 rows 1,024 bytes apart, the
// first at a multiple of 1,024. Bits 0-13: address / 16; 16-29: 1 (has no meaning here); 32-45: 1,024 / 16; 62-63: 1,
// the swizzle of 128 bytes. The low word alone differs.
__device__ __forceinline__ std::uint32_t operand_low(std::uint32_t address) { return 1u << 16 | address >> 4; }

__device__ __forceinline__ std::uint64_t operand(std::uint32_t low) {
  constexpr std::uint64_t kHigh = 1u << 30 | 1024 / 16;
  return kHigh << 32 | low;
}

#define ATTNGRAPH_SUMS_4(d, i) \
  ATTNGRAPH_IO_F(d[i]), ATTNGRAPH_IO_F(d[i + 1]), ATTNGRAPH_IO_F(d[i + 2]), ATTNGRAPH_IO_F(d[i + 3])
#define ATTNGRAPH_SUMS_16(d, i) \
  ATTNGRAPH_SUMS_4(d, i), ATTNGRAPH_SUMS_4(d, i + 4), ATTNGRAPH_SUMS_4(d, i + 8), ATTNGRAPH_SUMS_4(d, i + 12)
#define ATTNGRAPH_WGMMA_128(type)                                                                                   \
  ATTNGRAPH_PTX_MEMORY(                                                                                             \
      "{ .reg .pred add; setp.ne.b32 add, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type                \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
      "%23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, "   \
      "%44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, "  \
      "%65, add, 1, 1, 0, 0; }",                                                                                    \
      (ATTNGRAPH_SUMS_16(sums, 0), ATTNGRAPH_SUMS_16(sums, 16), ATTNGRAPH_SUMS_16(sums, 32),                        \
       ATTNGRAPH_SUMS_16(sums, 48)),                                                                                \
      (ATTNGRAPH_IN_L(a), ATTNGRAPH_IN_L(b), ATTNGRAPH_IN_N(kAdd ? 1 : 0)))

// sums (+)= a b^T over 16 columns: a has 64 rows, b 128. Lane l of warp w of the warpgroup holds, with g = l / 4 and
// t = l % 4: sums[4 j + e] of row 16 w + g + 8 (e / 2) and column 8 j + 2 t + e % 2.
template <bool kBf16, bool kAdd>
__device__ __forceinline__ void wgmma(float (&sums)[64], std::uint64_t a, std::uint64_t b) {
  if constexpr (kBf16) {
    ATTNGRAPH_WGMMA_128("bf16.bf16");
  } else {
    ATTNGRAPH_WGMMA_128("f16.f16");
  }
}

#undef ATTNGRAPH_WGMMA_128

}  // namespace ag::cuda
