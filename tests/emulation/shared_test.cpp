// SPDX-License-Identifier: Apache-2.0
// Shared memory and the limits of a launch.
#include <cmath>

#include "../../cuda/device/ptx.cuh"
#include "test_support.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;

__global__ void read_unwritten_kernel(float* out, int* integers) {
  ATTNGRAPH_SHARED(s_floats, float[8]);
  ATTNGRAPH_SHARED(s_integers, int[8]);
  ATTNGRAPH_DYNAMIC_SHARED(dynamic);
  out[0] = s_floats[threadIdx.x];
  out[1] = reinterpret_cast<float*>(dynamic)[threadIdx.x];
  integers[0] = s_integers[threadIdx.x];
}

TEST(Shared, UnwrittenMemoryIsNanAndMinusOne) {
  const DeviceArray<float> floats(2);
  const DeviceArray<int> integers(1);
  ASSERT_EQ(run(read_unwritten_kernel, 1, 1, 64, floats.data(), integers.data()), cudaSuccess) << last_error();
  EXPECT_TRUE(std::isnan(floats[0]));
  EXPECT_TRUE(std::isnan(floats[1]));
  EXPECT_EQ(integers[0], -1);
}

// Blocks do not see what the block before them has left.
__global__ void stale_kernel(int* out) {
  ATTNGRAPH_SHARED(s_value, int);
  out[blockIdx.x] = s_value;
  s_value = 5;
}

TEST(Shared, BlocksBeginAnew) {
  const DeviceArray<int> out(20);
  ASSERT_EQ(run(stale_kernel, 20, 1, 0, out.data()), cudaSuccess) << last_error();
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(out[i], -1);
}

template <int kTag>
__device__ int* tagged_array() {
  ATTNGRAPH_SHARED(s_tagged, int[4]);
  return s_tagged;
}

__global__ void instances_kernel(int* out) {
  int* const one = tagged_array<1>();
  int* const two = tagged_array<2>();
  if (threadIdx.x == 0) {
    one[0] = 1;
    two[0] = 2;
  }
  __syncthreads();
  out[threadIdx.x] = one[0] * 10 + two[0] + (one == tagged_array<1>() ? 100 : 0);
}

TEST(Shared, EachInstanceOfATemplateHasItsOwnArray) {
  const DeviceArray<int> out(64);
  ASSERT_EQ(run(instances_kernel, 1, 64, 0, out.data()), cudaSuccess) << last_error();
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(out[i], 112);
}

__global__ void dynamic_kernel(int* out) {
  ATTNGRAPH_DYNAMIC_SHARED(bytes);
  bytes[0] = 1;
  out[0] = static_cast<int>(reinterpret_cast<std::uintptr_t>(bytes) % 128);
}

TEST(Shared, DynamicMemoryHasToBeAskedFor) {
  const DeviceArray<int> out(1);
  EXPECT_EQ(run(dynamic_kernel, 1, 1, 0, out.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("dynamicSmemBytes is 0"), HasSubstr("shared_test.cpp:")));
  ASSERT_EQ(run(dynamic_kernel, 1, 1, 1000, out.data()), cudaSuccess) << last_error();
  EXPECT_EQ(out[0], 0);
}

TEST(Shared, MoreThan48KibibytesNeedTheAttribute) {
  const DeviceArray<int> out(1);
  constexpr int kBytes = 64 * 1024;
  EXPECT_EQ(run(dynamic_kernel, 1, 1, kBytes, out.data()), cudaErrorInvalidValue);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("65536 bytes"), HasSubstr("cudaFuncAttributeMaxDynamicSharedMemorySize")));
  cudaGetLastError();
  ASSERT_EQ(cudaFuncSetAttribute(reinterpret_cast<const void*>(&dynamic_kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
            cudaSuccess);
  EXPECT_EQ(run(dynamic_kernel, 1, 1, kBytes, out.data()), cudaSuccess) << last_error();
}

__global__ void large_static_kernel() {
  ATTNGRAPH_SHARED(s_large, float[10 * 1024]);
  ATTNGRAPH_SHARED(s_more, float[4 * 1024]);
  s_large[0] = s_more[0];
}

TEST(Shared, StaticArraysOver48KibibytesAreRefused) {
  EXPECT_EQ(run(large_static_kernel, 1, 1, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("57344 bytes static"));
}

// A float[] promises 4 bytes of alignment: the array stands where nothing more is true.
__global__ void misaligned_array_kernel(const float* x) {
  ATTNGRAPH_SHARED(s_values, float[64]);
  ag::cuda::cp_async_16(s_values, x, 16);
}

__global__ void aligned_array_kernel(const float* x) {
  struct alignas(16) Values {
    float at[64];
  };
  ATTNGRAPH_SHARED(s_values, Values);
  ag::cuda::cp_async_16(s_values.at, x, 16);
}

TEST(Shared, AlignmentThatATypeDoesNotPromiseIsNotThere) {
  const DeviceArray<float> x(4);
  EXPECT_EQ(run(misaligned_array_kernel, 1, 1, 0, x.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("not a multiple of 16"), HasSubstr("does the array's type promise")));
  EXPECT_EQ(run(aligned_array_kernel, 1, 1, 0, x.data()), cudaSuccess) << last_error();
}

__global__ void empty_kernel() {}

struct Launch {
  dim3 grid, block;
  cudaError_t code;
};

TEST(Launch, LimitsAreThoseOfAGpu) {
  const Launch launches[] = {{1, 1024, cudaSuccess},
                             {1, 1025, cudaErrorInvalidConfiguration},
                             {1, dim3(32, 33), cudaErrorInvalidConfiguration},
                             {1, dim3(1, 1, 64), cudaSuccess},
                             {1, dim3(1, 1, 65), cudaErrorInvalidConfiguration},
                             {1, 0, cudaErrorInvalidConfiguration},
                             {0, 1, cudaErrorInvalidConfiguration},
                             {dim3(70000), 1, cudaSuccess},
                             {dim3(1, 65535), 1, cudaSuccess},
                             {dim3(1, 65536), 1, cudaErrorInvalidConfiguration},
                             {dim3(1, 1, 65536), 1, cudaErrorInvalidConfiguration}};
  for (const Launch& launch : launches) {
    EXPECT_EQ(run(empty_kernel, launch.grid, launch.block, 0), launch.code)
        << launch.grid.x << " " << launch.grid.y << " " << launch.block.x << ": " << last_error();
    cudaGetLastError();
  }
}

struct Huge {
  char bytes[32765];
};
__global__ void huge_parameter_kernel(Huge) {}

TEST(Launch, ParametersHaveALimit) {
  EXPECT_EQ(run(huge_parameter_kernel, 1, 1, 0, Huge{}), cudaErrorInvalidValue);
  EXPECT_THAT(last_error(), HasSubstr("32765 bytes of parameters"));
  cudaGetLastError();
}

TEST(Launch, ClustersAreRefused) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  cudaLaunchConfig_t config{};
  config.gridDim = 2;
  config.blockDim = 32;
  config.attrs = &attribute;
  config.numAttrs = 1;
  clear_last_error();
  EXPECT_EQ(cudaLaunchKernelEx(&config, empty_kernel), cudaErrorNotSupported);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("empty_kernel"), HasSubstr("launch attribute")));
}

__global__ void throwing_kernel() { throw std::runtime_error("no exceptions on a device"); }

TEST(Launch, ExceptionIsAFailedKernel) {
  EXPECT_EQ(run(throwing_kernel, 1, 32, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("no exceptions on a device"));
}

__global__ void trap_kernel() {
  if (threadIdx.x == 3 && blockIdx.y == 1) __trap();
}

TEST(Launch, MessageNamesKernelBlockThreadAndLine) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(2, 2);
  config.blockDim = dim3(4, 2);
  clear_last_error();
  EXPECT_EQ(cudaLaunchKernelEx(&config, trap_kernel), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  revive_devices();
  EXPECT_THAT(last_error(), AllOf(HasSubstr("trap_kernel"), HasSubstr("block (0,1,0) thread (3,0,0)"),
                                  HasSubstr("tests/emulation/shared_test.cpp:"), HasSubstr("__trap()")));
}

}  // namespace
}  // namespace ag::emu
