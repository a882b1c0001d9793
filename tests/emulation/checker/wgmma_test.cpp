// SPDX-License-Identifier: Apache-2.0
// The checker and sm_90a: what mbarriers order, what the asynchronous proxy sees, and whose the accumulators are.
#include <cuda_fp16.h>

#include <string>

#include "../../../cuda/device/ptx_sm90.cuh"
#include "../runtime_fixture.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

class CheckedSm90 : public Runtime {
 protected:
  void SetUp() override {
    Runtime::SetUp();
    Settings settings;
    settings.compute_capability = 90;
    reset_runtime(settings);
    set_options(options_for(Schedule::kForward, 1));
    d_ = static_cast<float*>(device_memory(kFloats * sizeof(float)));
    EXPECT_EQ(cudaMemset(d_, 0, kFloats * sizeof(float)), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFree(d_), cudaSuccess);
    Runtime::TearDown();
  }

  template <class... Parameters, class... Arguments>
  static std::string findings(void (*kernel)(Parameters...), Arguments... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(1);
    config.blockDim = dim3(128);
    config.dynamicSmemBytes = kSharedBytes;
    EXPECT_EQ(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess) << last_error();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << last_error();
    return reported();
  }

  static constexpr int kFloats = 1024;
  static constexpr std::size_t kSharedBytes = 1024 + 64 * 128 + 128 * 128 + 64;
  float* d_ = nullptr;
};

enum class Order { kMbarrier, kOtherPhase };

template <Order kOrder>
__global__ void exchange_kernel(float* out) {
  ATTNGRAPH_SHARED(s_barrier, unsigned long long);
  ATTNGRAPH_SHARED(s_x, float[128]);
  const std::uint32_t barrier = ag::cuda::shared_address(&s_barrier);
  if (threadIdx.x == 0) ag::cuda::mbarrier_init(barrier, 128);
  __syncthreads();
  s_x[threadIdx.x] = 1;
  ag::cuda::mbarrier_arrive(barrier);
  // Of a new barrier, the phase before the first has ended.
  if (kOrder == Order::kMbarrier || threadIdx.x < 64)
    ag::cuda::mbarrier_wait(barrier, kOrder == Order::kMbarrier ? 0 : 1);
  out[threadIdx.x] = s_x[threadIdx.x ^ 64];
}

TEST_F(CheckedSm90, AnMbarrierOrdersWhoArrivesWithWhoWaits) {
  EXPECT_THAT(findings(exchange_kernel<Order::kMbarrier>, d_), IsEmpty());
  EXPECT_THAT(findings(exchange_kernel<Order::kOtherPhase>, d_), HasSubstr("shared memory"));
}

__global__ void no_barrier_after_init_kernel() {
  ATTNGRAPH_SHARED(s_barrier, unsigned long long);
  const std::uint32_t barrier = ag::cuda::shared_address(&s_barrier);
  if (threadIdx.x == 0) ag::cuda::mbarrier_init(barrier, 128);
  ag::cuda::mbarrier_arrive(barrier);
}

TEST_F(CheckedSm90, AnInitComesBeforeEveryUse) {
  EXPECT_THAT(findings(no_barrier_after_init_kernel), HasSubstr("race: byte 0 of 8 of shared memory"));
}

enum class Fault { kNone, kNoFence, kEarlyRead };

// Ordinary stores of the operands, products of them.
template <Fault kFault>
__global__ void product_kernel(float* out) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  const std::uint32_t start = ag::cuda::shared_address(shared), base = (start + 1023) / 1024 * 1024;
  auto* const words = reinterpret_cast<std::uint32_t*>(shared + (base - start));
  for (int i = static_cast<int>(threadIdx.x); i < (64 + 128) * 32; i += 128) words[i] = 0x3C003C00;
  if (kFault != Fault::kNoFence) ag::cuda::fence_proxy_async();
  __syncthreads();
  float sums[64];
  for (float& x : sums) x = 0;
  ag::cuda::wgmma_fence();
  ag::cuda::wgmma<false, false>(sums, ag::cuda::operand(ag::cuda::operand_low(base)),
                                ag::cuda::operand(ag::cuda::operand_low(base + 64 * 128)));
  ag::cuda::wgmma_commit();
  if (kFault == Fault::kEarlyRead) out[threadIdx.x] = sums[3];
  ag::cuda::wgmma_wait<0>();
  out[threadIdx.x] = sums[3];
}

TEST_F(CheckedSm90, OrdinaryStoresNeedAFenceBeforeWgmma) {
  EXPECT_THAT(findings(product_kernel<Fault::kNone>, d_), IsEmpty());
  EXPECT_THAT(findings(product_kernel<Fault::kNoFence>, d_),
              AllOf(HasSubstr("no fence"), HasSubstr("fence.proxy.async"), HasSubstr("wgmma_test.cpp")));
}

TEST_F(CheckedSm90, AccumulatorsAreNotReadBeforeTheWait) {
  EXPECT_THAT(findings(product_kernel<Fault::kEarlyRead>, d_),
              HasSubstr("an accumulator of a wgmma is read before the wait for it"));
}

}  // namespace
}  // namespace ag::emu
