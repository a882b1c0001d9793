// SPDX-License-Identifier: Apache-2.0
// What the machine code of a kernel does not say of itself, for budget.py.
//
//   kernel_facts shapes      a line for each instance of the fused kernels: name, threads, dynamic shared bytes, scores
//                            that a thread computes in a turn of the loop over keys
//   kernel_facts occupancy   reads lines "architecture threads registers shared-bytes" and writes for each how many
//                            blocks a multiprocessor holds, by NVIDIA's own rules
#include <cuda_runtime_api.h>  // cuda_occupancy.h wants its types

#include <cuda_occupancy.h>

#include <cstdio>
#include <cstring>

#include "../../cuda/streaming/shape.hpp"
#include "../../cuda/wgmma/shape.hpp"

namespace {

using namespace ag;
using namespace ag::cuda;

template <class S>
void print_shape(const char* kernel, const char* variant) {
  std::printf("%s<Shape<%s, %d, %s>> %d %d %d\n", kernel, name_of(S::kDtype), S::kHeadDim, variant, S::kThreads,
              S::kSharedBytes, S::kWarpRows * S::kStep / 32);
}

template <class S>
void print_both_passes(const char* variant) {
  print_shape<S>("row_sums_kernel", variant);
  print_shape<S>("row_edges_kernel", variant);
}

template <DType kDtype>
void print_shapes() {
#define ATTNGRAPH_LEAN(kDim) print_both_passes<Shape<kDtype, kDim, Variant::kLean>>("lean");
#define ATTNGRAPH_GENERAL(kDim)                                         \
  print_both_passes<Shape<kDtype, kDim, Variant::kGeneral>>("general"); \
  print_shape<Shape<kDtype, kDim, Variant::kEntropy>>("row_sums_kernel", "entropy");
  ATTNGRAPH_STREAMING_LEAN_HEAD_DIMS(ATTNGRAPH_LEAN)
  ATTNGRAPH_STREAMING_GENERAL_HEAD_DIMS(ATTNGRAPH_GENERAL)
#undef ATTNGRAPH_LEAN
#undef ATTNGRAPH_GENERAL
}

template <class S>
void print_wgmma_shape() {
  for (const char* pass : {"statistics", "entropy", "edges"}) {
    std::printf("wgmma_kernel<WgmmaShape<%s, %d>, %s> %d %d %d\n", name_of(S::kDtype), S::kPanels, pass, S::kThreads,
                S::kSharedBytes, S::kGroupRows * S::kKeys / 128);
  }
}

// What CUDA's documentation says of each compute capability ("Technical specifications").
struct Multiprocessor {
  int architecture, threads, shared_kib, shared_kib_per_block;
};
constexpr Multiprocessor kMultiprocessors[] = {{80, 2048, 164, 163}, {86, 1536, 100, 99},   {89, 1536, 100, 99},
                                               {90, 2048, 228, 227}, {100, 2048, 228, 227}, {103, 2048, 228, 227},
                                               {120, 1536, 100, 99}};

int blocks_of(int architecture, int threads, int registers, std::size_t shared_bytes) {
  for (const Multiprocessor& m : kMultiprocessors) {
    if (m.architecture != architecture) continue;
    cudaOccDeviceProp device{};
    device.computeMajor = architecture / 10;
    device.computeMinor = architecture % 10;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = m.threads;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.sharedMemPerBlock = 48 * 1024;
    device.sharedMemPerMultiprocessor = static_cast<std::size_t>(m.shared_kib) * 1024;
    device.numSms = 1;
    device.sharedMemPerBlockOptin = static_cast<std::size_t>(m.shared_kib_per_block) * 1024;
    device.reservedSharedMemPerBlock = 1024;
    cudaOccFuncAttributes function{};
    function.maxThreadsPerBlock = 1024;
    function.numRegs = registers;
    function.partitionedGCConfig = PARTITIONED_GC_OFF;
    function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    function.maxDynamicSharedSizeBytes = device.sharedMemPerBlockOptin;
    const cudaOccDeviceState state{};
    cudaOccResult result{};
    const cudaOccError code =
        cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &function, &state, threads, shared_bytes);
    return code == CUDA_OCC_SUCCESS ? result.activeBlocksPerMultiprocessor : -1;
  }
  return -1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "shapes") == 0) {
    print_shapes<DType::kF16>();
    print_shapes<DType::kBF16>();
    print_shapes<DType::kF32>();
    print_wgmma_shape<WgmmaShape<DType::kF16, 1>>();
    print_wgmma_shape<WgmmaShape<DType::kF16, 2>>();
    print_wgmma_shape<WgmmaShape<DType::kBF16, 1>>();
    print_wgmma_shape<WgmmaShape<DType::kBF16, 2>>();
    print_wgmma_shape<WgmmaShape<DType::kF32, 2>>();
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "occupancy") == 0) {
    int architecture = 0, threads = 0, registers = 0;
    std::size_t shared_bytes = 0;
    while (std::scanf("%d %d %d %zu", &architecture, &threads, &registers, &shared_bytes) == 4) {
      std::printf("%d\n", blocks_of(architecture, threads, registers, shared_bytes));
    }
    return 0;
  }
  std::fprintf(stderr, "usage: kernel_facts shapes|occupancy\n");
  return 2;
}
