// SPDX-License-Identifier: Apache-2.0
// Every PTX instruction that the kernels issue, one function each. sm_80 is enough for all of them.
#pragma once

#include <cstdint>

#include "macros.cuh"

namespace ag::cuda {

// Start copying 16 bytes from global to shared memory, both aligned to 16; the last 16 - bytes of them are zeros and
// not read. Bytes arrive by cp_async_wait of the group they are committed in, and are visible to other threads after a
// barrier.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int bytes) {
  ATTNGRAPH_PTX_MEMORY("cp.async.cg.shared.global [%0], [%1], 16, %2;", (),
                       (ATTNGRAPH_IN_SHARED(shared), ATTNGRAPH_IN_L(global), ATTNGRAPH_IN_R(bytes)));
}

__device__ __forceinline__ void cp_async_commit() { ATTNGRAPH_PTX_MEMORY("cp.async.commit_group;", (), ()); }

// Wait until at most kPending of this thread's newest groups are on their way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  ATTNGRAPH_PTX_MEMORY("cp.async.wait_group %0;", (), (ATTNGRAPH_IN_N(kPending)));
}

// Four 8x8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned) and
// receives in r[m] elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of matrix m. All 32 lanes take part.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared) {
  ATTNGRAPH_PTX_MEMORY("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];",
                       (ATTNGRAPH_OUT_R(r[0]), ATTNGRAPH_OUT_R(r[1]), ATTNGRAPH_OUT_R(r[2]), ATTNGRAPH_OUT_R(r[3])),
                       (ATTNGRAPH_IN_SHARED(shared)));
}

// c += a b, a 16x16 row-major, b 16x8 column-major, c 16x8 in f32. Lane l holds, with g = l / 4 and t = l % 4:
// a[0] (g, 2t..), a[1] (g + 8, 2t..), a[2] (g, 2t + 8..), a[3] (g + 8, 2t + 8..); b0 (2t.., g), b1 (2t + 8.., g);
// c[0], c[1] (g, 2t..), c[2], c[3] (g + 8, 2t..).
__device__ __forceinline__ void mma_f16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                        std::uint32_t b1) {
  ATTNGRAPH_PTX(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};",
      (ATTNGRAPH_IO_F(c[0]), ATTNGRAPH_IO_F(c[1]), ATTNGRAPH_IO_F(c[2]), ATTNGRAPH_IO_F(c[3])),
      (ATTNGRAPH_IN_R(a[0]), ATTNGRAPH_IN_R(a[1]), ATTNGRAPH_IN_R(a[2]), ATTNGRAPH_IN_R(a[3]), ATTNGRAPH_IN_R(b0),
       ATTNGRAPH_IN_R(b1)));
}

__device__ __forceinline__ void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                         std::uint32_t b1) {
  ATTNGRAPH_PTX(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};",
      (ATTNGRAPH_IO_F(c[0]), ATTNGRAPH_IO_F(c[1]), ATTNGRAPH_IO_F(c[2]), ATTNGRAPH_IO_F(c[3])),
      (ATTNGRAPH_IN_R(a[0]), ATTNGRAPH_IN_R(a[1]), ATTNGRAPH_IN_R(a[2]), ATTNGRAPH_IN_R(a[3]), ATTNGRAPH_IN_R(b0),
       ATTNGRAPH_IN_R(b1)));
}

// 2^x to 2 ulp; results below 2^-126 are 0, 2^-inf is 0.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  ATTNGRAPH_PTX("ex2.approx.ftz.f32 %0, %1;", (ATTNGRAPH_OUT_F(y)), (ATTNGRAPH_IN_F(x)));
  return y;
}

}  // namespace ag::cuda
