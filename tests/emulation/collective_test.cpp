// SPDX-License-Identifier: Apache-2.0
// Warp collectives: what they give, and what they refuse.
#include <cstdint>

#include "test_support.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr unsigned kAll = 0xffffffffu;

struct Results {
  int index, up, down, butterfly, segment;
  double wide;
  unsigned ballot, any, all, same, sum, least;
  int greatest;
};

__global__ void collectives_kernel(Results* out) {
  const int lane = static_cast<int>(threadIdx.x);
  Results r{};
  r.index = __shfl_sync(kAll, lane, 5);
  r.up = __shfl_up_sync(kAll, lane, 3);
  r.down = __shfl_down_sync(kAll, lane, 3);
  r.butterfly = __shfl_xor_sync(kAll, lane, 7);
  r.segment = __shfl_sync(kAll, lane, 9, 8);  // lane 9 % 8 of each eight
  r.wide = __shfl_xor_sync(kAll, static_cast<double>(lane) / 3, 1);
  r.ballot = __ballot_sync(kAll, lane % 3 == 0);
  r.any = static_cast<unsigned>(__any_sync(kAll, lane == 31));
  r.all = static_cast<unsigned>(__all_sync(kAll, lane < 31));
  r.same = __match_any_sync(kAll, lane / 8);
  r.sum = __reduce_add_sync(kAll, static_cast<unsigned>(lane));
  r.least = __reduce_min_sync(kAll, static_cast<unsigned>(lane) + 4);
  r.greatest = __reduce_max_sync(kAll, -lane);
  out[lane] = r;
}

TEST(Collective, GiveWhatTheManualSays) {
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 7));
    const DeviceArray<Results> out(32);
    ASSERT_EQ(run(collectives_kernel, 1, 32, 0, out.data()), cudaSuccess) << last_error();
    for (int lane = 0; lane < 32; ++lane) {
      const Results r = out[static_cast<std::size_t>(lane)];
      EXPECT_EQ(r.index, 5);
      EXPECT_EQ(r.up, lane < 3 ? lane : lane - 3);
      EXPECT_EQ(r.down, lane + 3 < 32 ? lane + 3 : lane);
      EXPECT_EQ(r.butterfly, lane ^ 7);
      EXPECT_EQ(r.segment, lane / 8 * 8 + 1);
      EXPECT_EQ(r.wide, static_cast<double>(lane ^ 1) / 3);
      EXPECT_EQ(r.ballot, 0x49249249u);
      EXPECT_EQ(r.any, 1u);
      EXPECT_EQ(r.all, 0u);
      EXPECT_EQ(r.same, 0xffu << lane / 8 * 8);
      EXPECT_EQ(r.sum, 496u);
      EXPECT_EQ(r.least, 4u);
      EXPECT_EQ(r.greatest, 0);
    }
  }
}

// Two halves of a warp go through different code; each names its own lanes.
__global__ void halves_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < 16) {
    out[lane] = __shfl_xor_sync(0x0000ffffu, lane, 1);
  } else {
    for (int i = 0; i < lane % 4; ++i) out[lane] = i;
    out[lane] = __popc(__ballot_sync(0xffff0000u, lane % 2));
  }
}

TEST(Collective, DisjointMasksMeetApart) {
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 7));
    const DeviceArray<int> out(32);
    ASSERT_EQ(run(halves_kernel, 1, 32, 0, out.data()), cudaSuccess) << last_error();
    EXPECT_EQ(out[6], 7);
    EXPECT_EQ(out[20], 8);
  }
}

__global__ void partial_warp_kernel(unsigned* out) { out[threadIdx.x] = __ballot_sync(kAll, 1); }

TEST(Collective, LanesThatDoNotExistDoNotVote) {
  const DeviceArray<unsigned> out(40);
  ASSERT_EQ(run(partial_warp_kernel, 1, 40, 0, out.data()), cudaSuccess) << last_error();
  EXPECT_EQ(out[0], 0xffffffffu);
  EXPECT_EQ(out[39], 0xffu);
}

__global__ void divergent_shuffle_kernel(int* out) {
  int value = static_cast<int>(threadIdx.x);
  if (value % 2 == 0) {
    value = __shfl_xor_sync(kAll, value, 2);
  } else {
    value = __shfl_xor_sync(kAll, value, 4);
  }
  out[threadIdx.x] = value;
}

TEST(Collective, ShufflesInTwoBranchesAreADivergence) {
  const DeviceArray<int> out(32);
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 2));
    EXPECT_EQ(run(divergent_shuffle_kernel, 1, 32, 0, out.data()), cudaErrorLaunchFailure);
    EXPECT_THAT(last_error(), AllOf(HasSubstr("the warp diverges"), HasSubstr("collective_test.cpp:"),
                                    HasSubstr("0xffffffff"), HasSubstr("thread (")));
  }
}

__global__ void foreign_mask_kernel() { __ballot_sync(0x0000ffffu, 1); }

TEST(Collective, LaneOutsideOfItsMaskIsNamed) {
  EXPECT_EQ(run(foreign_mask_kernel, 1, 32, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("lane 16 is not in the mask 0x0000ffff"), HasSubstr("thread (16,0,0)")));
}

__global__ void absent_source_kernel() {
  if (threadIdx.x < 16) __shfl_sync(0x0000ffffu, 1, 20);
}

TEST(Collective, ShuffleFromALaneThatTakesNoPartIsRefused) {
  EXPECT_EQ(run(absent_source_kernel, 1, 32, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("reads from lane 20, which takes no part"));
}

__global__ void ended_source_kernel(int* out) {
  if (threadIdx.x == 31) return;
  out[threadIdx.x] = __shfl_down_sync(kAll, 1, 1);
}

TEST(Collective, ShuffleFromALaneThatHasEndedIsRefused) {
  const DeviceArray<int> out(32);
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 2));
    EXPECT_EQ(run(ended_source_kernel, 1, 32, 0, out.data()), cudaErrorLaunchFailure);
    EXPECT_THAT(last_error(), HasSubstr("reads from lane 31, which takes no part"));
  }
}

__global__ void odd_width_kernel() { __shfl_sync(kAll, 1, 0, 12); }

TEST(Collective, WidthHasToBeAPowerOfTwo) {
  EXPECT_EQ(run(odd_width_kernel, 1, 32, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("the width is 12"));
}

__global__ void sizes_differ_kernel() {
  if (threadIdx.x % 2 == 0)
    __shfl_sync(kAll, 1, 0);
  else
    __shfl_sync(kAll, 1.0, 0);
}

TEST(Collective, ShufflesOfDifferentSizesDoNotMeet) {
  EXPECT_EQ(run(sizes_differ_kernel, 1, 32, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("the warp diverges"));
}

// What a warp's lanes exchange through shared memory needs a __syncwarp.
template <bool kSync>
__global__ void warp_exchange_kernel(int* out) {
  ATTNGRAPH_SHARED(s_values, int[32]);
  s_values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (kSync) __syncwarp();
  out[threadIdx.x] = s_values[31 - threadIdx.x];
}

TEST(Collective, MissingSyncwarpIsSeenUnderEverySchedule) {
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 2));
    const DeviceArray<int> out(32);
    const auto wrong = [&] {
      int count = 0;
      for (std::size_t i = 0; i < 32; ++i) count += out[i] != static_cast<int>(31 - i);
      return count;
    };
    ASSERT_EQ(run(warp_exchange_kernel<true>, 1, 32, 0, out.data()), cudaSuccess);
    EXPECT_EQ(wrong(), 0);
    ASSERT_EQ(run(warp_exchange_kernel<false>, 1, 32, 0, out.data()), cudaSuccess);
    EXPECT_GT(wrong(), 0) << name_of(schedule);
  }
}

__global__ void add_without_atomics_kernel(int* total, bool atomics) {
  if (atomics) {
    atomicAdd(total, 1);
  } else {
    const int old = *total;
    __syncwarp();
    *total = old + 1;
  }
}

TEST(Collective, AtomicsCountEveryThreadAndPlainAdditionsDoNot) {
  const DeviceArray<int> total(2, [](std::size_t) { return 0; });
  ASSERT_EQ(run(add_without_atomics_kernel, 10, 256, 0, total.data(), true), cudaSuccess);
  EXPECT_EQ(total[0], 2560);
  ASSERT_EQ(run(add_without_atomics_kernel, 10, 256, 0, total.data() + 1, false), cudaSuccess);
  EXPECT_LT(total[1], 2560);
}

struct AtomicResults {
  unsigned inc, dec, cas;
  unsigned long long wide;
  double sum;
  float sum32;
  int least, greatest;
  unsigned bits;
  unsigned exchanged;
};

__global__ void atomics_kernel(AtomicResults* r) {
  atomicInc(&r->inc, 9);
  atomicDec(&r->dec, 9);
  unsigned seen = r->cas;
  for (unsigned expected = seen; (seen = atomicCAS(&r->cas, expected, expected + 2)) != expected;) expected = seen;
  atomicAdd(&r->wide, 1ull << 33);
  atomicAdd(&r->sum, 0.5);
  atomicAdd(&r->sum32, 0.25f);
  atomicMin(&r->least, -static_cast<int>(threadIdx.x));
  atomicMax(&r->greatest, static_cast<int>(threadIdx.x));
  atomicOr(&r->bits, 1u << threadIdx.x % 32);
  atomicExch(&r->exchanged, 77u);
}

TEST(Collective, AtomicsGiveWhatTheManualSays) {
  for (const Schedule schedule : kSchedules) {
    const WithOptions with(options_for(schedule, 2));
    const DeviceArray<AtomicResults> out(1, [](std::size_t) { return AtomicResults{}; });
    ASSERT_EQ(run(atomics_kernel, 1, 64, 0, out.data()), cudaSuccess) << last_error();
    const AtomicResults r = out[0];
    EXPECT_EQ(r.inc, 64u % 10);
    EXPECT_EQ(r.dec, 6u);  // 0 -> 9, then down: 63 steps of a cycle of 10
    EXPECT_EQ(r.cas, 128u);
    EXPECT_EQ(r.wide, 64ull << 33);
    EXPECT_EQ(r.sum, 32.0);
    EXPECT_EQ(r.sum32, 16.0f);
    EXPECT_EQ(r.least, -63);
    EXPECT_EQ(r.greatest, 63);
    EXPECT_EQ(r.bits, 0xffffffffu);
    EXPECT_EQ(r.exchanged, 77u);
  }
}

__global__ void misaligned_atomic_kernel(unsigned char* p) { atomicAdd(reinterpret_cast<unsigned*>(p + 2), 1u); }

TEST(Collective, MisalignedAtomicIsRefused) {
  const DeviceArray<unsigned char> bytes(16);
  EXPECT_EQ(run(misaligned_atomic_kernel, 1, 1, 0, bytes.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("an atomic of 4 bytes"));
}

}  // namespace
}  // namespace ag::emu
