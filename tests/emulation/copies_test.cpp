// SPDX-License-Identifier: Apache-2.0
// cp.async and ldmatrix: when bytes arrive, which addresses are refused, how many banks collide.
#include <cuda_fp16.h>

#include <cmath>

#include "../../cuda/device/ptx.cuh"
#include "test_support.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Tiles of 128 floats through a ring of kStages; kPending is the number of groups that may be on their way when a tile
// is read: kStages - 1 is right.
constexpr int kStages = 2;
constexpr int kTile = 128;

template <int kPending, bool kTrailingBarrier>
__global__ void stream_kernel(const float* in, float* out, int tiles) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  auto* const s_ring = reinterpret_cast<float(*)[kTile]>(shared);
  const int t = static_cast<int>(threadIdx.x);  // 32 threads, 4 floats each
  const auto fetch = [&](int tile) {
    if (tile < tiles) ag::cuda::cp_async_16(&s_ring[tile % kStages][t * 4], in + tile * kTile + t * 4, 16);
    ag::cuda::cp_async_commit();
  };
  fetch(0);
  float sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    fetch(tile + 1);
    ag::cuda::cp_async_wait<kPending>();
    __syncthreads();
    for (int i = 0; i < kTile; i += 32) sum += s_ring[tile % kStages][i + (t + 1) % 32];
    if (kTrailingBarrier) __syncthreads();
  }
  out[t] = sum;
}

template <int kPending, bool kTrailingBarrier>
bool stream_is_wrong(const Options& options) {
  constexpr int kTiles = 6;
  const WithOptions with(options);
  const DeviceArray<float> in(kTiles * kTile, [](std::size_t i) { return static_cast<float>(i % 13); });
  const DeviceArray<float> out(32);
  EXPECT_EQ(run(stream_kernel<kPending, kTrailingBarrier>, 1, 32, kStages * kTile * sizeof(float), in.data(),
                out.data(), kTiles),
            cudaSuccess)
      << last_error();
  for (std::size_t t = 0; t < 32; ++t) {
    float sum = 0;
    for (std::size_t i = (t + 1) % 32; i < kTiles * kTile; i += 32) sum += in[i];
    if (!(out[t] == sum)) return true;
  }
  return false;
}

Options with_copies(Schedule schedule, std::uint64_t seed, Copies copies) {
  Options options = options_for(schedule, seed);
  options.copies = copies;
  return options;
}

TEST(Copies, CorrectRingPassesHoweverCopiesArrive) {
  for (const Schedule schedule : kSchedules) {
    for (const Copies copies : {Copies::kLazy, Copies::kEager, Copies::kRandom}) {
      EXPECT_FALSE((stream_is_wrong<kStages - 1, true>(with_copies(schedule, 5, copies)))) << name_of(schedule);
    }
  }
}

TEST(Copies, WaitThatIsTooLaxIsSeenWithLazyCopies) {
  for (const Schedule schedule : kSchedules) {
    EXPECT_TRUE((stream_is_wrong<kStages, true>(with_copies(schedule, 5, Copies::kLazy)))) << name_of(schedule);
    EXPECT_TRUE((stream_is_wrong<kStages, true>(with_copies(schedule, 5, Copies::kRandom)))) << name_of(schedule);
  }
  EXPECT_FALSE((stream_is_wrong<kStages, true>(with_copies(Schedule::kForward, 5, Copies::kEager))));
}

TEST(Copies, CopyIntoABufferThatOthersStillReadIsSeenUnderPrioritySchedules) {
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u, 5u, 6u}) {
    EXPECT_TRUE((stream_is_wrong<kStages - 1, false>(with_copies(Schedule::kFiberPriority, seed, Copies::kLazy))));
  }
}

__global__ void fill_kernel(const float* in, float* out, int bytes) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  auto* const s_values = reinterpret_cast<float*>(shared);
  ag::cuda::cp_async_16(s_values, in, bytes);
  ag::cuda::cp_async_commit();
  ag::cuda::cp_async_wait<0>();
  for (int i = 0; i < 4; ++i) out[i] = s_values[i];
}

TEST(Copies, BytesThatAreNotReadBecomeZeros) {
  const DeviceArray<float> in(4, [](std::size_t i) { return static_cast<float>(i + 1); });
  const DeviceArray<float> out(4);
  for (const int bytes : {0, 4, 8, 16}) {
    ASSERT_EQ(run(fill_kernel, 1, 1, 16, in.data(), out.data(), bytes), cudaSuccess) << last_error();
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(out[i], static_cast<int>(i) * 4 < bytes ? in[i] : 0.0f) << bytes;
  }
  EXPECT_EQ(run(fill_kernel, 1, 1, 16, in.data(), out.data(), 20), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("reads 20 of 16 bytes"));
}

__global__ void copy_kernel(const unsigned char* in, int global_offset, int shared_offset, int bytes) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  ag::cuda::cp_async_16(shared + shared_offset, in + global_offset, bytes);
}

TEST(Copies, AddressesOutsideOfMemoryAreRefused) {
  const DeviceArray<unsigned char> in(100);
  const auto said = [&](int global_offset, int shared_offset, int bytes) {
    run(copy_kernel, 1, 1, 64, in.data(), global_offset, shared_offset, bytes);
    return last_error();
  };
  EXPECT_EQ(said(80, 48, 16), "");
  EXPECT_EQ(said(96, 0, 4), "");
  EXPECT_THAT(said(96, 0, 16),
              AllOf(HasSubstr("16 bytes at offset 96"), HasSubstr("100 bytes"), HasSubstr("ptx.cuh:")));
  EXPECT_THAT(said(4096, 0, 16), HasSubstr("in no live allocation"));
  EXPECT_EQ(said(4096, 0, 0), "");  // nothing is read
  EXPECT_THAT(said(8, 0, 16), HasSubstr("the global address is not a multiple of 16"));
  EXPECT_THAT(said(0, 8, 16), HasSubstr("the shared address is not a multiple of 16"));
  EXPECT_THAT(said(0, 64, 16), HasSubstr("not in the block's shared memory"));
  EXPECT_THAT(said(0, 56, 16), HasSubstr("16 bytes at offset 56 of a shared array of 64 bytes"));
}

// Lane l asks for row l % 8 of matrix l / 8; rows of `pitch` halves, swizzled or not.
__global__ void ldmatrix_kernel(int pitch, int misalign, bool swizzle, std::uint32_t* out) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  auto* const s_values = reinterpret_cast<std::uint16_t*>(shared);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * pitch; i += 32) s_values[i] = static_cast<std::uint16_t>(i);
  __syncwarp();
  const int row = lane % 16;
  const int chunk = lane / 16;
  std::uint32_t r[4];
  ag::cuda::ldmatrix_x4(
      r, s_values + row * pitch + (swizzle ? chunk ^ (row % 8) : chunk) * 8 + (lane == 3 ? misalign : 0));
  for (int m = 0; m < 4; ++m) out[m * 32 + lane] = r[m];
}

TEST(Ldmatrix, GivesEachLaneItsElements) {
  const DeviceArray<std::uint32_t> out(128);
  ASSERT_EQ(run(ldmatrix_kernel, 1, 32, 16 * 64 * 2, 64, 0, false, out.data()), cudaSuccess) << last_error();
  for (std::size_t m = 0; m < 4; ++m) {
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const std::size_t first = (m % 2 * 8 + lane / 4) * 64 + m / 2 * 8 + lane % 4 * 2;
      EXPECT_EQ(out[m * 32 + lane], first | (first + 1) << 16);
    }
  }
}

TEST(Ldmatrix, CountsBankConflicts) {
  const DeviceArray<std::uint32_t> out(128);
  reset_counters();
  ASSERT_EQ(run(ldmatrix_kernel, 1, 32, 16 * 64 * 2, 64, 0, false, out.data()), cudaSuccess) << last_error();
  EXPECT_EQ(counters().ldmatrix_conflicts, 28u);  // rows of 128 bytes: all eight in the same banks, four times
  reset_counters();
  ASSERT_EQ(run(ldmatrix_kernel, 1, 32, 16 * 64 * 2, 64, 0, true, out.data()), cudaSuccess) << last_error();
  EXPECT_EQ(counters().ldmatrix_conflicts, 0u);
  reset_counters();
  ASSERT_EQ(run(ldmatrix_kernel, 1, 32, 16 * 72 * 2, 72, 0, false, out.data()), cudaSuccess) << last_error();
  EXPECT_EQ(counters().ldmatrix_conflicts, 0u);  // padded rows
  EXPECT_EQ(counters().ldmatrix, 1u);
}

TEST(Ldmatrix, MisalignedRowAndRowOutsideAreRefused) {
  const DeviceArray<std::uint32_t> out(128);
  EXPECT_EQ(run(ldmatrix_kernel, 1, 32, 16 * 64 * 2, 64, 1, false, out.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("ldmatrix, lane 3"), HasSubstr("not a multiple of 16")));
  EXPECT_EQ(run(ldmatrix_kernel, 1, 32, 16 * 64 * 2, 64, 16 * 64, false, out.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("ldmatrix, lane 3"));
}

}  // namespace
}  // namespace ag::emu
