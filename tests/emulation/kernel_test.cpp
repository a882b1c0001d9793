// SPDX-License-Identifier: Apache-2.0
// Correct kernels give the same right answer whoever runs first.
#include <cuda_fp16.h>

#include <cmath>
#include <vector>

#include "../../cuda/device/ptx.cuh"
#include "test_support.hpp"

namespace ag::emu {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

__global__ void block_sum_kernel(const float* x, float* out, int n) {
  ATTNGRAPH_SHARED(s_sums, float[8]);
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) sum += x[blockIdx.x * n + i];
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  if (threadIdx.x % 32 == 0) s_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (int i = 0; i < 8; ++i) total += s_sums[i];
    out[blockIdx.x] = total;
  }
}

TEST_P(EverySchedule, BlockSum) {
  constexpr int kBlocks = 20;
  constexpr int kPerBlock = 512;
  const DeviceArray<float> x(kBlocks * kPerBlock, [](std::size_t i) { return static_cast<float>(i % 7); });
  const DeviceArray<float> sums(kBlocks);
  EXPECT_EQ(run(block_sum_kernel, kBlocks, 256, 0, x.data(), sums.data(), kPerBlock), cudaSuccess) << last_error();
  for (std::size_t b = 0; b < kBlocks; ++b) {
    float expected = 0;
    for (std::size_t i = 0; i < kPerBlock; ++i) expected += x[b * kPerBlock + i];
    EXPECT_EQ(sums[b], expected);
  }
}

// c[16][8] = 2^(a[16][16] b[8][16]^T), both row-major, through shared memory.
__global__ void tile_kernel(const __half* a, const __half* b, float* c) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  auto* const s_a = reinterpret_cast<__half*>(shared);
  auto* const s_b = s_a + 256;
  const int lane = static_cast<int>(threadIdx.x);
  ag::cuda::cp_async_16(s_a + lane * 8, a + lane * 8, 16);
  if (lane < 16) ag::cuda::cp_async_16(s_b + lane * 8, b + lane * 8, 16);
  ag::cuda::cp_async_commit();
  ag::cuda::cp_async_wait<0>();
  __syncwarp();
  std::uint32_t fragment_a[4];
  std::uint32_t fragment_b[4];
  ag::cuda::ldmatrix_x4(fragment_a, s_a + lane % 16 * 16 + lane / 16 * 8);
  ag::cuda::ldmatrix_x4(fragment_b, s_b + lane % 8 * 16 + lane / 8 % 2 * 8);
  float sums[4] = {};
  ag::cuda::mma_f16(sums, fragment_a, fragment_b[0], fragment_b[1]);
  for (int e = 0; e < 4; ++e) c[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = ag::cuda::exp2_approx(sums[e]);
}

TEST_P(EverySchedule, TileThroughAsyncCopyLdmatrixAndMma) {
  const DeviceArray<__half> a(256, [](std::size_t i) { return __float2half(static_cast<float>(i * 37 % 11) / 8); });
  const DeviceArray<__half> b(128, [](std::size_t i) { return __float2half(static_cast<float>(i * 17 % 13) / 8 - 1); });
  const DeviceArray<float> c(128);
  reset_counters();
  ASSERT_EQ(run(tile_kernel, 1, 32, 768, a.data(), b.data(), c.data()), cudaSuccess) << last_error();
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 8; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < 16; ++k) sum += double{__half2float(a[i * 16 + k])} * __half2float(b[j * 16 + k]);
      EXPECT_NEAR(c[i * 8 + j], std::exp2(sum), 1e-6 * std::exp2(sum)) << i << ", " << j;
    }
  }
  EXPECT_EQ(counters().mma, 1);
  EXPECT_EQ(counters().ldmatrix, 2);
  EXPECT_EQ(counters().cp_async, 48);
  EXPECT_EQ(counters().cp_async_bytes, 768);
}

INSTANTIATE_TEST_SUITE_P(Schedules, EverySchedule,
                         testing::Combine(testing::ValuesIn(kSchedules), testing::Values(1u, 2u, 3u)),
                         [](const auto& info) {
                           return name_of(std::get<0>(info.param)) + std::to_string(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace ag::emu
