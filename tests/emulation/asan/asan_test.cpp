// SPDX-License-Identifier: Apache-2.0
// What AddressSanitizer and UndefinedBehaviorSanitizer see in emulated kernels, and that they have nothing to say of
// correct ones: fibers, barriers and failures included.
#include <cstdint>

#include "../../../cuda/device/ptx.cuh"
#include "../fiber.hpp"
#include "../test_support.hpp"

namespace ag::emu {
namespace {

constexpr int kThreads = 64;

__global__ void reverse_kernel(const int* in, int* out, int beyond) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  auto* const s_values = reinterpret_cast<int*>(shared);
  const int t = static_cast<int>(threadIdx.x);
  s_values[t] = in[t];
  __syncthreads();
  out[t + beyond] = s_values[kThreads - 1 - t];
}

class Asan : public testing::Test {
 protected:
  Asan() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  DeviceArray<int> in_{kThreads, [](std::size_t i) { return static_cast<int>(i); }};
  DeviceArray<int> out_{kThreads};
};

TEST_F(Asan, TheTestIsInstrumented) { ASSERT_TRUE(address_sanitizer()); }

TEST_F(Asan, CorrectKernelIsClean) {
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 1));
    ASSERT_EQ(run(reverse_kernel, 1, kThreads, kThreads * sizeof(int), in_.data(), out_.data(), 0), cudaSuccess)
        << last_error();
    for (std::size_t i = 0; i < kThreads; ++i) EXPECT_EQ(out_[i], static_cast<int>(kThreads - 1 - i));
  }
}

TEST_F(Asan, GlobalAccessBeyondTheEndIsSeen) {
  EXPECT_DEATH(run(reverse_kernel, 1, kThreads, kThreads * sizeof(int), in_.data(), out_.data(), 1),
               "heap-buffer-overflow.*(\n.*)*WRITE of size 4(.*\n)*.*reverse_kernel");
}

TEST_F(Asan, DynamicSharedMemoryThatIsTooSmallIsSeen) {
  EXPECT_DEATH(run(reverse_kernel, 1, kThreads, kThreads * sizeof(int) - 4, in_.data(), out_.data(), 0),
               "heap-buffer-overflow.*(\n.*)*of size 4");
}

__global__ void static_index_kernel(int* out, int index) {
  ATTNGRAPH_SHARED(s_values, int[8]);
  s_values[index] = 1;
  out[0] = s_values[index];
}

TEST_F(Asan, StaticSharedIndexBeyondTheEndIsSeen) {
  EXPECT_EQ(run(static_index_kernel, 1, 1, 0, out_.data(), 7), cudaSuccess) << last_error();
  EXPECT_DEATH(run(static_index_kernel, 1, 1, 0, out_.data(), 8), "index 8 out of bounds for type 'int ?\\[8\\]'");
}

__global__ void pointer_index_kernel(int* out, int index) {
  ATTNGRAPH_SHARED(s_values, int[8]);
  int* const p = s_values;
  p[index] = 1;
  out[0] = p[index];
}

TEST_F(Asan, StaticSharedPointerBeyondTheEndIsSeen) {
  EXPECT_DEATH(run(pointer_index_kernel, 1, 1, 0, out_.data(), 8), "heap-buffer-overflow");
}

__global__ void vector_load_kernel(const int* in, int* out, int offset) {
  const int4* const four = reinterpret_cast<const int4*>(in + offset);
  out[0] = four->x + four->w;
}

TEST_F(Asan, VectorLoadThatIsNotAlignedIsSeen) {
  EXPECT_EQ(run(vector_load_kernel, 1, 1, 0, in_.data(), out_.data(), 4), cudaSuccess) << last_error();
  EXPECT_DEATH(run(vector_load_kernel, 1, 1, 0, in_.data(), out_.data(), 1), "misaligned address");
}

__global__ void local_index_kernel(const int* in, int* out, int n) {
  int local[4];
  int* p = local;
  for (int i = 0; i < n; ++i) p[i] = in[i];
  out[0] = p[in[1]];
}

TEST_F(Asan, LocalArrayBeyondItsEndIsSeen) {
  EXPECT_EQ(run(local_index_kernel, 1, 1, 0, in_.data(), out_.data(), 4), cudaSuccess) << last_error();
  EXPECT_DEATH(run(local_index_kernel, 1, 1, 0, in_.data(), out_.data(), 5),
               "stack-buffer-overflow|insufficient space for an object of type .int.");
}

__global__ void shift_kernel(int* out, int bits) { out[0] = 1 << bits; }

TEST_F(Asan, UndefinedArithmeticIsSeen) {
  EXPECT_EQ(run(shift_kernel, 1, 1, 0, out_.data(), 30), cudaSuccess) << last_error();
  EXPECT_DEATH(run(shift_kernel, 1, 1, 0, out_.data(), 33), "shift exponent 33 is too large");
}

TEST_F(Asan, HostMayNotTouchDeviceMemory) {
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 64), cudaSuccess);
  EXPECT_DEATH(*static_cast<volatile char*>(p) = 1, "use-after-poison");
  EXPECT_EQ(cudaFree(p), cudaSuccess);
}

__global__ void early_return_kernel(const int* in, int* out) {
  int frame[kThreads];  // between red zones
  for (int i = 0; i < kThreads; ++i) frame[i] = in[i];
  if (threadIdx.x == 40) return;
  __syncthreads();
  out[threadIdx.x] = frame[in[threadIdx.x]];
}

// A kernel that fails leaves many frames behind; the next one gets their stacks.
TEST_F(Asan, StacksOfAFailedKernelCanBeUsedAgain) {
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(run(early_return_kernel, 1, kThreads, 0, in_.data(), out_.data()), cudaErrorLaunchFailure);
    ASSERT_EQ(run(reverse_kernel, 1, kThreads, kThreads * sizeof(int), in_.data(), out_.data(), 0), cudaSuccess)
        << last_error();
    EXPECT_EQ(out_[0], kThreads - 1);
  }
}

}  // namespace
}  // namespace ag::emu
