// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "../common/launch.hpp"
#include "../common/warp.cuh"
#include "instances.hpp"
#include "margin.cuh"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;

// ln(e^a + e^b); either may be -inf.
__device__ double log_add(double a, double b) {
  const double high = a > b ? a : b, low = a > b ? b : a;
  return low > -infinity_f64() ? high + log1p(exp(low - high)) : high;
}

__global__ void row_cuts_kernel(Chunk chunk, RowFacts facts, RowStates states, float* cuts) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= chunk.rows()) return;
  double logsumexp = -infinity_f64();
  if (chunk.given_logsumexp != nullptr) {
    logsumexp = chunk.given_logsumexp[row];
  } else {
    for (std::int32_t s = 0; states.sum != nullptr && s < states.splits; ++s) {
      const std::int64_t n = s * chunk.rows() + row;
      if (states.sum[n] > 0) logsumexp = log_add(logsumexp, states.reference[n] + log(states.sum[n]));
    }
    if (chunk.sink != nullptr) logsumexp = log_add(logsumexp, chunk.sink[row / chunk.queries]);
  }
  const double cut2 = (logsumexp + chunk.log_threshold) * kLog2E - static_cast<double>(base2_margin(facts.band[row]));
  // -inf, or a NaN where a row has no keys, lets every pair pass.
  cuts[row] = cut2 > -1e37 ? static_cast<float>(cut2 - fabs(cut2) * 0x1p-22) : -1e37f;
}

}  // namespace

cudaError_t launch_row_cuts(const Chunk& chunk, const RowFacts& facts, const RowStates& states, float* d_cuts,
                            cudaStream_t stream) {
  if (chunk.rows() == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(blocks_for(chunk.rows(), kThreads), kThreads, stream);
  return cudaLaunchKernelEx(&config, row_cuts_kernel, chunk, facts, states, d_cuts);
}

}  // namespace ag::cuda
