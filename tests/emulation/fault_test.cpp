// SPDX-License-Identifier: Apache-2.0
// What would end a program ends the kernel alone, with a message. Under AddressSanitizer its own report ends the
// program.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fiber.hpp"
#include "test_support.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Fault : public testing::Test {
 protected:
  void SetUp() override {
#if defined(__x86_64__)
    if (address_sanitizer()) GTEST_SKIP() << "AddressSanitizer reports faults itself";
#else
    GTEST_SKIP() << "faults of the processor are caught on x86-64 only";
#endif
  }
};

__global__ void null_kernel(int* p) {
  if (threadIdx.x == 5) p[16] = 1;
}

TEST_F(Fault, WildPointerIsAFailedKernel) {
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 1));
    EXPECT_EQ(run(null_kernel, 1, 32, 0, static_cast<int*>(nullptr)), cudaErrorLaunchFailure);
    EXPECT_THAT(last_error(), AllOf(HasSubstr("thread (5,0,0)"), HasSubstr("a wild access at 0x40"),
                                    HasSubstr("null_kernel"), HasSubstr("fault_test.cpp:")));
  }
  const DeviceArray<int> memory(17);
  EXPECT_EQ(run(null_kernel, 1, 32, 0, memory.data()), cudaSuccess) << last_error();
}

__device__ int depth(const volatile int* deeper, int n) {
  volatile int frame[1024];
  frame[n % 1024] = n;
  return *deeper != 0 ? depth(deeper, n + 1) + frame[(n + 1) % 1024] : frame[0];
}

__global__ void recursive_kernel(const int* deeper, int* out) { *out = depth(deeper, 0); }

TEST_F(Fault, ExhaustedStackIsAFailedKernel) {
  const DeviceArray<int> memory(2, [](std::size_t) { return 1; });
  EXPECT_EQ(run(recursive_kernel, 1, 1, 0, memory.data(), memory.data() + 1), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("the thread's stack is exhausted"));
}

__global__ void divide_kernel(int* p) { p[0] = 7 / p[1]; }

TEST_F(Fault, DivisionByZeroIsAFailedKernel) {
  const DeviceArray<int> memory(2, [](std::size_t) { return 0; });
  EXPECT_EQ(run(divide_kernel, 1, 1, 0, memory.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("division by zero"), HasSubstr("divide_kernel")));
}

struct Flagged {
  std::int64_t values[4];
  int* at;
  bool flag;
};

__global__ void flagged_kernel(Flagged flagged) {
  if (flagged.flag) *flagged.at = 1;
}

TEST(Arguments, WhatStandsInTheirPaddingIsNoPointer) {
#if __has_builtin(__builtin_clear_padding)
  const DeviceArray<int> memory(1, [](std::size_t) { return 0; });
  void* freed = nullptr;
  ASSERT_EQ(cudaMalloc(&freed, 512), cudaSuccess);
  alignas(Flagged) std::byte bytes[sizeof(Flagged)] = {};
  std::memcpy(bytes + sizeof bytes - sizeof freed, &freed, sizeof freed);
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  Flagged& flagged = *reinterpret_cast<Flagged*>(bytes);
  flagged.at = memory.data();
  flagged.flag = true;
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  EXPECT_EQ(cudaLaunchKernelEx(&config, flagged_kernel, flagged), cudaSuccess) << last_error();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(memory[0], 1);
#else
  GTEST_SKIP() << "this compiler cannot clear the padding";
#endif
}

}  // namespace
}  // namespace ag::emu
