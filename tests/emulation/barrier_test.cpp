// SPDX-License-Identifier: Apache-2.0
// Barriers that are missing, left out by some threads, or waited for in vain.
#include <cmath>
#include <set>

#include "../../cuda/device/ptx.cuh"
#include "test_support.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kThreads = 128;

int failures_over_seeds(Schedule schedule, int seeds, bool (*wrong)()) {
  int count = 0;
  for (int seed = 1; seed <= seeds; ++seed) {
    const WithOptions with(options_for(schedule, static_cast<std::uint64_t>(seed)));
    if (wrong()) ++count;
  }
  return count;
}

// Each thread reads what its neighbour has written; kBefore and kAfter are the barriers before and after the read.
template <bool kBefore, bool kAfter>
__global__ void rotate_kernel(const float* in, float* out, int rounds) {
  ATTNGRAPH_SHARED(s_values, float[kThreads]);
  const unsigned t = threadIdx.x;
  float value = in[t];
  for (int round = 0; round < rounds; ++round) {
    s_values[t] = value;
    if (kBefore) __syncthreads();
    value = s_values[(t + 1) % kThreads];
    if (kAfter) __syncthreads();
  }
  out[t] = value;
}

template <bool kBefore, bool kAfter>
bool rotation_is_wrong() {
  constexpr int kRounds = 4;
  const DeviceArray<float> in(kThreads, [](std::size_t i) { return static_cast<float>(i); });
  const DeviceArray<float> out(kThreads);
  EXPECT_EQ(run(rotate_kernel<kBefore, kAfter>, 1, kThreads, 0, in.data(), out.data(), kRounds), cudaSuccess)
      << last_error();
  for (std::size_t i = 0; i < kThreads; ++i) {
    if (!(out[i] == in[(i + kRounds) % kThreads])) return true;  // NaN as well
  }
  return false;
}

TEST(Barrier, ReadBeforeTheBarrierIsSeenUnderEverySchedule) {
  for (const Schedule schedule : kSchedules) {
    EXPECT_EQ(failures_over_seeds(schedule, 5, &rotation_is_wrong<false, true>), 5) << name_of(schedule);
  }
}

TEST(Barrier, MissingTrailingBarrierIsSeenUnderPrioritySchedules) {
  for (const Schedule schedule : {Schedule::kWarpPriority, Schedule::kFiberPriority}) {
    EXPECT_EQ(failures_over_seeds(schedule, 12, &rotation_is_wrong<true, false>), 12) << name_of(schedule);
  }
}

TEST(Barrier, CorrectRotationPassesUnderEverySchedule) {
  for (const Schedule schedule : kSchedules) {
    EXPECT_EQ(failures_over_seeds(schedule, 5, &rotation_is_wrong<true, true>), 0) << name_of(schedule);
  }
}

__global__ void early_return_kernel(int* out, int active) {
  if (static_cast<int>(threadIdx.x) >= active) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

TEST(Barrier, ThreadThatReturnsBeforeABarrierIsNamed) {
  const DeviceArray<int> out(64);
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 1));
    EXPECT_EQ(run(early_return_kernel, 1, 64, 0, out.data(), 50), cudaErrorLaunchFailure);
    EXPECT_THAT(last_error(), AllOf(HasSubstr("block (0,0,0) thread ("), HasSubstr("tests/emulation/barrier_test.cpp:"),
                                    HasSubstr("end")))
        << name_of(schedule);
  }
  EXPECT_EQ(run(early_return_kernel, 1, 64, 0, out.data(), 64), cudaSuccess) << last_error();
}

__global__ void two_barriers_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

TEST(Barrier, BarriersInTwoBranchesAreADivergence) {
  EXPECT_EQ(run(two_barriers_kernel, 1, 64, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("the block diverges"), HasSubstr("32 of its threads")));
}

__global__ void half_in_barrier_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else if (threadIdx.x < 48) {
    __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __syncwarp(0xffff0000u);
    __ballot_sync(0xffffffffu, 1);
  }
}

__global__ void deadlock_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __ballot_sync(threadIdx.x < 48 ? 0xffffffffu : 0xfffffffeu, 1);
  }
}

TEST(Barrier, DeadlockReportSaysWhoWaitsWhere) {
  EXPECT_EQ(run(deadlock_kernel, 1, 64, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("deadlock"), HasSubstr("32 wait in a block barrier at tests/emulation/"),
                                  HasSubstr("wait in a vote"), HasSubstr("the first is block (0,0,0) thread (0,0,0)")));
  EXPECT_EQ(run(half_in_barrier_kernel, 1, 64, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("the warp diverges"), HasSubstr("a vote"), HasSubstr("a shuffle")));
}

__global__ void count_kernel(int* out, int below) {
  const int mine = static_cast<int>(threadIdx.x) < below ? 1 : 0;
  const int count = __syncthreads_count(mine);
  const int any = __syncthreads_or(mine);
  const int all = __syncthreads_and(mine);
  out[threadIdx.x] = count * 4 + any * 2 + all;
}

TEST(Barrier, CountsVotesOfTheBlock) {
  const DeviceArray<int> out(96);
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 3));
    for (const int below : {0, 1, 50, 96}) {
      ASSERT_EQ(run(count_kernel, 1, 96, 0, out.data(), below), cudaSuccess) << last_error();
      const int expected = below * 4 + (below > 0 ? 2 : 0) + (below == 96 ? 1 : 0);
      for (std::size_t i = 0; i < 96; ++i) ASSERT_EQ(out[i], expected) << name_of(schedule);
    }
  }
}

__global__ void wait_for_flag_kernel(unsigned* flag, int waiting_block) {
  if (static_cast<int>(blockIdx.x) == waiting_block) {
    while (atomicAdd(flag, 0u) == 0) __nanosleep(20);
  } else {
    atomicAdd(flag, 1u);
  }
}

TEST(Barrier, WaitingForABlockWorksWhenItIsResidentAndIsALivelockWhenNot) {
  Options options = options_for(Schedule::kForward, 1);
  options.resident_blocks = 2;
  {
    const WithOptions with(options);
    const DeviceArray<unsigned> flag(1, [](std::size_t) { return 0u; });
    EXPECT_EQ(run(wait_for_flag_kernel, 2, 1, 0, flag.data(), 0), cudaSuccess) << last_error();
  }
  options.resident_blocks = 1;
  const WithOptions with(options);
  const DeviceArray<unsigned> flag(1, [](std::size_t) { return 0u; });
  EXPECT_EQ(run(wait_for_flag_kernel, 2, 1, 0, flag.data(), 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("livelock"));
}

__global__ void named_barriers_kernel(float* out) {
  ATTNGRAPH_SHARED(s_values, float[64]);
  const unsigned t = threadIdx.x;
  const unsigned half = t / 32;
  s_values[t] = static_cast<float>(t);
  if (half == 0) {
    ATTNGRAPH_PTX_MEMORY("bar.sync 1, 32;", (), ());
  } else {
    ATTNGRAPH_PTX_MEMORY("bar.sync %0, %1;", (), (ATTNGRAPH_IN_R(half + 1), ATTNGRAPH_IN_N(32)));
  }
  out[t] = s_values[half * 32 + (t + 1) % 32];
}

TEST(Barrier, NamedBarriersJoinPartsOfABlock) {
  const DeviceArray<float> out(64);
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 3));
    ASSERT_EQ(run(named_barriers_kernel, 1, 64, 0, out.data()), cudaSuccess) << last_error();
    EXPECT_EQ(out[31], 0.0f);
    EXPECT_EQ(out[63], 32.0f);
  }
}

}  // namespace
}  // namespace ag::emu
