// SPDX-License-Identifier: Apache-2.0
// Offsets of a batch as those of the whole answer.
#include "../device/launch.hpp"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    rebase_offsets_kernel(std::int64_t* offsets, std::int64_t count, std::int64_t base) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n < count) offsets[n] += base;
}

}  // namespace

cudaError_t launch_rebase_offsets(std::int64_t* d_offsets, std::int64_t n, std::int64_t base, cudaStream_t stream) {
  const cudaLaunchConfig_t config = launch_config(blocks_for(n + 1, kThreads), kThreads, stream);
  return cudaLaunchKernelEx(&config, rebase_offsets_kernel, d_offsets, n + 1, base);
}

}  // namespace ag::cuda
