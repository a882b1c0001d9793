// SPDX-License-Identifier: Apache-2.0
// Every kind of race and of unwritten memory is found in one run of the plainest schedule, with both places named, and
// the same kernel done right is not accused.
#include <cuda_runtime.h>

#include <string>

#include "../../../cuda/device/ptx.cuh"
#include "../runtime_fixture.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kThreads = 64;

class Checked : public Runtime {
 protected:
  void SetUp() override {
    Runtime::SetUp();
    set_options(options_for(Schedule::kForward, 1));
    d_ = static_cast<float*>(device_memory(kFloats * sizeof(float)));
    EXPECT_EQ(cudaMemset(d_, 0, kFloats * sizeof(float)), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFree(d_), cudaSuccess);
    Runtime::TearDown();
  }

  // What is reported of one launch.
  template <class... Parameters, class... Arguments>
  static std::string findings(void (*kernel)(Parameters...), int blocks, Arguments... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(kThreads);
    EXPECT_EQ(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess) << last_error();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << last_error();
    return reported();
  }

  static std::string at(int line) { return "tests/emulation/checker/checker_test.cpp:" + std::to_string(line); }

  static constexpr int kFloats = 1024;
  float* d_ = nullptr;
};

constexpr int kExchangeWrite = __LINE__ + 6;
constexpr int kExchangeRead = __LINE__ + 7;
template <bool kBefore, bool kAfter>
__global__ void exchange_kernel(float* out) {
  ATTNGRAPH_SHARED(s_x, float[kThreads]);
  for (int round = 0; round < 2; ++round) {
    s_x[threadIdx.x] = static_cast<float>(threadIdx.x);
    if (kBefore) __syncthreads();
    out[threadIdx.x] += s_x[(threadIdx.x + 1) % kThreads];
    if (kAfter) __syncthreads();
  }
}

TEST_F(Checked, ABarrierBeforeReading) {
  EXPECT_THAT(findings(exchange_kernel<false, true>, 1, d_),
              AllOf(HasSubstr("race: byte"), HasSubstr("of 256 of shared memory (4 bytes)"), HasSubstr("is written by"),
                    HasSubstr("and was read by block (0,0,0) thread"), HasSubstr(at(kExchangeWrite)),
                    HasSubstr(at(kExchangeRead))));
}

TEST_F(Checked, ABarrierAfterReading) {
  EXPECT_THAT(findings(exchange_kernel<true, false>, 1, d_),
              AllOf(HasSubstr("race: byte"), HasSubstr(at(kExchangeWrite)), HasSubstr(at(kExchangeRead))));
}

TEST_F(Checked, BarriersOrderABlock) { EXPECT_THAT(findings(exchange_kernel<true, true>, 1, d_), IsEmpty()); }

enum class Within { kNothing, kShuffle, kSyncwarp };

template <Within kOrder>
__global__ void warp_kernel(float* out) {
  ATTNGRAPH_SHARED(s_x, float[kThreads]);
  s_x[threadIdx.x] = 1;
  if (kOrder == Within::kShuffle) out[0 + threadIdx.x] = __shfl_xor_sync(0xffffffffu, s_x[threadIdx.x], 1);
  if (kOrder == Within::kSyncwarp) __syncwarp();
  out[threadIdx.x] = s_x[threadIdx.x ^ 1];
}

TEST_F(Checked, OnlySyncwarpOrdersAWarp) {
  EXPECT_THAT(findings(warp_kernel<Within::kNothing>, 1, d_), HasSubstr("unwritten"));
  EXPECT_THAT(findings(warp_kernel<Within::kShuffle>, 1, d_), HasSubstr("race"));
  EXPECT_THAT(findings(warp_kernel<Within::kSyncwarp>, 1, d_ + kThreads), IsEmpty());
}

template <bool kAcrossWarps>
__global__ void half_ordered_kernel(float* out) {
  ATTNGRAPH_SHARED(s_x, float[kThreads]);
  s_x[threadIdx.x] = 1;
  __syncthreads();
  s_x[threadIdx.x] = 2;
  __syncwarp();
  out[threadIdx.x] = s_x[kAcrossWarps ? (threadIdx.x + 32) % kThreads : threadIdx.x ^ 1];
}

TEST_F(Checked, SyncwarpOrdersNoOtherWarp) {
  EXPECT_THAT(findings(half_ordered_kernel<true>, 1, d_), HasSubstr("race"));
  EXPECT_THAT(findings(half_ordered_kernel<false>, 1, d_), IsEmpty());
}

__global__ void two_readers_kernel(float* out) {
  ATTNGRAPH_SHARED(s_x, float[1]);
  if (threadIdx.x == 0) s_x[0] = 1;
  __syncthreads();
  const float x = threadIdx.x == 7 || threadIdx.x == 40 ? s_x[0] : 0;
  if (threadIdx.x == 40) s_x[0] = 2;  // the last reader writes: thread 7 is in no order with it
  out[threadIdx.x] = x;
}

TEST_F(Checked, AWriterMeetsEveryReader) {
  EXPECT_THAT(findings(two_readers_kernel, 1, d_),
              HasSubstr("is written by block (0,0,0) thread (40,0,0) and was read by block (0,0,0) thread (7,0,0)"));
}

template <int kPending, bool kBarrier>
__global__ void ring_kernel(const float* in, float* out) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  auto* const s_ring = reinterpret_cast<float(*)[kThreads * 4]>(shared);
  const int t = static_cast<int>(threadIdx.x);
  const auto fetch = [&](int tile) {
    ag::cuda::cp_async_16(&s_ring[tile % 2][t * 4], in + t * 4, 16);
    ag::cuda::cp_async_commit();
  };
  fetch(0);
  for (int tile = 0; tile < 3; ++tile) {
    fetch(tile + 1);
    ag::cuda::cp_async_wait<kPending>();
    __syncthreads();
    out[t] = s_ring[tile % 2][(t * 4 + 5) % (kThreads * 4)];
    if (kBarrier) __syncthreads();
  }
  ag::cuda::cp_async_wait<0>();
}

template <int kPending, bool kBarrier>
std::string ring_findings(float* d) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = 2 * kThreads * 4 * sizeof(float);
  EXPECT_EQ(cudaLaunchKernelEx(&config, ring_kernel<kPending, kBarrier>, d, d + kThreads * 4), cudaSuccess);
  std::string all;
  for (const std::string& text : take_reports()) all += text + "\n";
  return all;
}

TEST_F(Checked, AWaitThatIsTooLax) {
  EXPECT_THAT((ring_findings<2, true>(d_)), HasSubstr("before the wait for the copy that brings it"));
}

TEST_F(Checked, ACopyIntoWhatOthersStillRead) {
  EXPECT_THAT((ring_findings<1, false>(d_)), AllOf(HasSubstr("race"), HasSubstr("cuda/device/ptx.cuh")));
}

TEST_F(Checked, ACorrectRing) { EXPECT_THAT((ring_findings<1, true>(d_)), IsEmpty()); }

__global__ void read_kernel(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }

TEST_F(Checked, MemoryNobodyHasWritten) {
  float* fresh = static_cast<float*>(device_memory(2 * kThreads * sizeof(float)));
  float* const copy = fresh + kThreads;
  EXPECT_THAT(findings(read_kernel, 1, fresh, d_),
              AllOf(HasSubstr("unwritten: byte 0 of the 512 bytes of cudaMalloc on device 0"),
                    HasSubstr("read before anything has written it")));
  EXPECT_EQ(cudaMemset(fresh, 0, (kThreads - 1) * sizeof(float)), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(copy, fresh, kThreads * sizeof(float), cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_EQ(cudaFree(fresh), cudaSuccess);
}

__global__ void read_tail_kernel(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }
__global__ void read_copy_kernel(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }
__global__ void read_written_kernel(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }

TEST_F(Checked, CopiesAndFillsWriteWhatTheyWrite) {
  float* const fresh = static_cast<float*>(device_memory(2 * kThreads * sizeof(float)));
  float* const copy = fresh + kThreads;
  EXPECT_EQ(cudaMemset(fresh, 0, kThreads * sizeof(float) - 1), cudaSuccess);  // all but the last byte
  EXPECT_THAT(findings(read_tail_kernel, 1, fresh, d_), HasSubstr("unwritten: byte 252 of"));
  EXPECT_EQ(cudaMemcpy(copy, fresh, kThreads * sizeof(float), cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_THAT(findings(read_copy_kernel, 1, copy, d_), HasSubstr("unwritten: byte 508 of"));
  const std::vector<float> host(kThreads);
  EXPECT_EQ(cudaMemcpy(copy, host.data(), kThreads * sizeof(float), cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_THAT(findings(read_written_kernel, 1, copy, d_), IsEmpty());
  EXPECT_EQ(cudaFree(fresh), cudaSuccess);
}

template <bool kAll>
__global__ void shared_tail_kernel(float* out) {
  ATTNGRAPH_SHARED(s_x, float[kThreads]);
  if (kAll || threadIdx.x != 5) s_x[threadIdx.x] = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < kThreads; ++i) sum += s_x[i];
    out[0] = sum;
  }
}

TEST_F(Checked, SharedMemoryNobodyHasWritten) {
  EXPECT_THAT(findings(shared_tail_kernel<false>, 1, d_), HasSubstr("unwritten: byte 20 of 256 of shared memory"));
  EXPECT_THAT(findings(shared_tail_kernel<true>, 1, d_), IsEmpty());
  // Another block's shared memory is fresh again.
  EXPECT_THAT(findings(shared_tail_kernel<true>, 5, d_), HasSubstr("race"));  // they all write out[0]
}

enum class Count { kPlain, kAtomic, kMixed };

template <Count kHow>
__global__ void count_kernel(float* out) {
  if (threadIdx.x != 0) return;
  const bool is_atomic = kHow == Count::kAtomic || (kHow == Count::kMixed && blockIdx.x == 0);
  if (is_atomic) {
    atomicAdd(out, 1.0f);
  } else {
    out[0] += 1;
  }
}

TEST_F(Checked, BlocksAreNeverOrdered) {
  EXPECT_THAT(findings(count_kernel<Count::kPlain>, 2, d_),
              AllOf(HasSubstr("race"), HasSubstr("block (1,0,0)"), HasSubstr("block (0,0,0)")));
  EXPECT_THAT(findings(count_kernel<Count::kMixed>, 2, d_), HasSubstr("race"));
  EXPECT_THAT(findings(count_kernel<Count::kAtomic>, 2, d_), IsEmpty());
  EXPECT_THAT(findings(count_kernel<Count::kPlain>, 1, d_), IsEmpty());
}

TEST_F(Checked, GridsAreOrdered) {
  for (int i = 0; i < 3; ++i) EXPECT_THAT(findings(exchange_kernel<true, true>, 1, d_), IsEmpty());
}

__global__ void neighbours_kernel(unsigned char* bytes, short* shorts) {
  bytes[threadIdx.x] = 1;
  shorts[threadIdx.x] = 1;
}

TEST_F(Checked, NeighbouringBytesAreNoRace) {
  EXPECT_THAT(findings(neighbours_kernel, 1, reinterpret_cast<unsigned char*>(d_), reinterpret_cast<short*>(d_ + 100)),
              IsEmpty());
}

__global__ void same_byte_kernel(unsigned char* bytes) { bytes[threadIdx.x / 2] = 1; }

TEST_F(Checked, TheSameByteIs) {
  EXPECT_THAT(findings(same_byte_kernel, 1, reinterpret_cast<unsigned char*>(d_)),
              HasSubstr("(1 bytes) is written by block (0,0,0) thread (1,0,0)"));
}

__global__ void wide_kernel(double* out) {
  ATTNGRAPH_SHARED(s_x, double[1]);
  if (threadIdx.x < 2) reinterpret_cast<int*>(s_x)[threadIdx.x] = 0;
  if (threadIdx.x == 2) out[0] = s_x[0];
}

TEST_F(Checked, WideAccessesCoverNarrowOnes) {
  EXPECT_THAT(findings(wide_kernel, 1, reinterpret_cast<double*>(d_)),
              HasSubstr("byte 0 of 8 of shared memory (8 bytes) is read by"));
}

}  // namespace
}  // namespace ag::emu
