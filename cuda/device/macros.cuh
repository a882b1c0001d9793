// SPDX-License-Identifier: Apache-2.0
// Shared memory and inline PTX behind macros, so that one text is compiled by nvcc and run on the CPU by
// tests/emulation. Kernels declare shared memory and issue PTX through these only, and are launched by
// cudaLaunchKernelEx only.
#pragma once

#include <cuda_runtime.h>

#if !defined(ATTNGRAPH_EMULATION)  // tests/emulation defines all of these before it comes here

namespace ag::cuda {
template <class T>
struct Identity {
  using type = T;
};
}  // namespace ag::cuda

// ATTNGRAPH_SHARED(s_sums, float[64]): a static array or object in shared memory. The type may hold commas.
#define ATTNGRAPH_SHARED(name, ...) __shared__ typename ::ag::cuda::Identity<__VA_ARGS__>::type name

// The block's dynamic shared memory, aligned to 128 bytes, as `unsigned char* name`.
#define ATTNGRAPH_DYNAMIC_SHARED(name)                                \
  extern __shared__ __align__(128) unsigned char ag_dynamic_shared[]; \
  unsigned char* const name = ag_dynamic_shared

// ATTNGRAPH_PTX("opcode %0, %1;", (outputs), (inputs)): one instruction that depends on its operands alone.
// ATTNGRAPH_PTX_MEMORY: the same for one that reads or writes memory, or orders it.
// Operands: ATTNGRAPH_OUT_R/F (write), ATTNGRAPH_IO_R/F/L (read and write), ATTNGRAPH_IN_R/F/L (32-bit integer, float,
// 64-bit integer or global pointer), ATTNGRAPH_IN_SHARED (pointer into shared memory), ATTNGRAPH_IN_N (constant).
#define ATTNGRAPH_PTX(text, outputs, inputs) asm(text : ATTNGRAPH_LIST outputs : ATTNGRAPH_LIST inputs)
#define ATTNGRAPH_PTX_MEMORY(text, outputs, inputs) \
  asm volatile(text : ATTNGRAPH_LIST outputs : ATTNGRAPH_LIST inputs : "memory")
#define ATTNGRAPH_LIST(...) __VA_ARGS__
#define ATTNGRAPH_OUT_R(x) "=r"(x)
#define ATTNGRAPH_OUT_F(x) "=f"(x)
#define ATTNGRAPH_IO_R(x) "+r"(x)
#define ATTNGRAPH_IO_F(x) "+f"(x)
#define ATTNGRAPH_IO_L(x) "+l"(x)
#define ATTNGRAPH_IN_R(x) "r"(x)
#define ATTNGRAPH_IN_F(x) "f"(x)
#define ATTNGRAPH_IN_L(x) "l"(x)
#define ATTNGRAPH_IN_N(x) "n"(x)
#define ATTNGRAPH_IN_SHARED(p) "r"(static_cast<unsigned>(__cvta_generic_to_shared(p)))

#endif
