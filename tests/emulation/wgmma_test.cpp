// SPDX-License-Identifier: Apache-2.0
// sm_90a: tensor copies, mbarriers, wgmma and setmaxnreg give the right answer under every schedule, and faults in
// their order, their addresses and their numbers are named or change it.
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <optional>

#include "../../cuda/device/ptx_sm90.cuh"
#include "test_support.hpp"

namespace ag::emu {
namespace {

using ag::cuda::copy_box;
using ag::cuda::operand;
using ag::cuda::operand_low;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kRows = 64, kKeys = 128, kColumns = 64;
constexpr int kTileBytes = kKeys * 128, kQueryBytes = kRows * 128, kWgmmaStages = 2;

CUtensorMap tensor_map(const void* data, int rows, int box_rows, CUtensorMapDataType type, int columns = kColumns,
                       CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status{};
  EXPECT_EQ(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status),
            cudaSuccess);
  EXPECT_EQ(status, cudaDriverEntryPointSuccess);
  CUtensorMap map;
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows), 1};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(columns) * 2, static_cast<cuuint64_t>(columns) * 2 * rows};
  const cuuint32_t box[3] = {64, static_cast<cuuint32_t>(box_rows), 1}, steps[3] = {1, 1, 1};
  EXPECT_EQ(reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found)(
                &map, type, 3, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
            CUDA_SUCCESS)
      << last_error();
  return map;
}

enum class WgmmaFault {
  kNone,
  kNoInitFence,
  kNoFullWait,
  kWrongParity,
  kEarlyRelease,
  kNoEmptyWait,
  kTooFewBytes,
  kTooManyBytes,
  kNoWgmmaFence,
  kNoWgmmaWait,
  kNoCommit,
  kWrittenBetween,
  kMisalignedBase,
  kWrongStride,
  kNoSwizzle,
  kDivergentGroup,
  kMissingWarp,
};

// out[64][rows of k] = q k^T, tiles of 128 keys through two buffers, a producer warp beside the warpgroup.
template <bool kBf16, WgmmaFault kFault>
__global__ void product_kernel(const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                               int tiles, float* out) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  const std::uint32_t start = ag::cuda::shared_address(shared);
  const std::uint32_t query = kFault == WgmmaFault::kMisalignedBase ? start : (start + 1023) / 1024 * 1024;
  const std::uint32_t keys = query + kQueryBytes, barriers = keys + kWgmmaStages * kTileBytes;
  const std::uint32_t query_full = barriers, full = barriers + 8, empty = full + 8 * kWgmmaStages;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    ag::cuda::mbarrier_init(query_full, 1);
    for (int s = 0; s < kWgmmaStages; ++s) {
      ag::cuda::mbarrier_init(full + 8 * s, 1);
      ag::cuda::mbarrier_init(empty + 8 * s, 4);
    }
    if (kFault != WgmmaFault::kNoInitFence) ag::cuda::fence_mbarrier_init();
  }
  __syncthreads();
  if (warp == 4) {
    if (lane != 0) return;
    ag::cuda::mbarrier_arrive_expect(query_full, kQueryBytes);
    copy_box(query, &q_map, 0, 0, 0, query_full);
    for (int t = 0; t < tiles; ++t) {
      const int s = t % kWgmmaStages;
      if (kFault != WgmmaFault::kNoEmptyWait) ag::cuda::mbarrier_wait(empty + 8 * s, (t / kWgmmaStages & 1) ^ 1);
      const int wrong = kFault == WgmmaFault::kTooFewBytes ? -128 : kFault == WgmmaFault::kTooManyBytes ? 128 : 0;
      ag::cuda::mbarrier_arrive_expect(full + 8 * s, kTileBytes + wrong);
      copy_box(keys + s * kTileBytes, &k_map, 0, t * kKeys, 0, full + 8 * s);
    }
    return;
  }
  ag::cuda::mbarrier_wait(query_full, 0);
  float sums[64];
  for (float& x : sums) x = 0;
  for (int t = 0; t < tiles; ++t) {
    const int s = t % kWgmmaStages;
    const std::uint32_t parity = (t / kWgmmaStages & 1) ^ (kFault == WgmmaFault::kWrongParity ? 1 : 0);
    if (kFault != WgmmaFault::kNoFullWait) ag::cuda::mbarrier_wait(full + 8 * s, parity);
    if (kFault != WgmmaFault::kNoWgmmaFence) ag::cuda::wgmma_fence();
    const std::uint32_t a = operand_low(query), b = operand_low(keys + s * kTileBytes);
    const std::uint32_t last = kFault == WgmmaFault::kDivergentGroup && warp == 2 ? 3 : 2;
    const std::uint64_t change = kFault == WgmmaFault::kWrongStride ? std::uint64_t{32} << 32
                                 : kFault == WgmmaFault::kNoSwizzle ? std::uint64_t{3} << 62
                                                                    : 0;
    if (kFault != WgmmaFault::kMissingWarp || warp != 3) {
      ag::cuda::wgmma<kBf16, false>(sums, operand(a), operand(b) ^ change);
      ag::cuda::wgmma<kBf16, true>(sums, operand(a + 2), operand(b + 2) ^ change);
      ag::cuda::wgmma<kBf16, true>(sums, operand(a + 2 * last), operand(b + 2 * last) ^ change);
      ag::cuda::wgmma<kBf16, true>(sums, operand(a + 6), operand(b + 6) ^ change);
    }
    if (kFault != WgmmaFault::kNoCommit) ag::cuda::wgmma_commit();
    if (kFault == WgmmaFault::kWrittenBetween) sums[5] = 0;
    if (kFault == WgmmaFault::kEarlyRelease) {
      __syncwarp();
      if (lane == 0) ag::cuda::mbarrier_arrive(empty + 8 * s);
    }
    if (kFault != WgmmaFault::kNoWgmmaWait) ag::cuda::wgmma_wait<0>();
    if (kFault != WgmmaFault::kEarlyRelease) {
      __syncwarp();
      if (lane == 0) ag::cuda::mbarrier_arrive(empty + 8 * s);
    }
    for (int i = 0; i < 64; ++i) {
      const int row = warp * 16 + lane / 4 + i % 4 / 2 * 8, key = t * kKeys + i / 4 * 8 + lane % 4 * 2 + i % 2;
      out[row * tiles * kKeys + key] = sums[i];
    }
  }
  ag::cuda::wgmma_wait<0>();
}

float value_of(std::size_t i) { return static_cast<float>(i * 2654435761u >> 16 & 63) / 16 - 2; }

template <class T>
T element(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half(x);
  } else {
    return __float2bfloat16(x);
  }
}

class Wgmma : public testing::Test {
 protected:
  Wgmma() {
    Settings settings;
    settings.compute_capability = 90;
    reset_runtime(settings);
  }
  ~Wgmma() override { reset_runtime(); }

  // What the kernel says, or the largest error of its answer; keys past the end are zeros.
  template <bool kBf16, WgmmaFault kFault>
  std::string fault_of(int keys = 300) {
    using T = std::conditional_t<kBf16, __nv_bfloat16, __half>;
    const auto type = kBf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    const int tiles = (keys + kKeys - 1) / kKeys;
    const DeviceArray<T> q(kRows * kColumns, [](std::size_t i) { return element<T>(value_of(i)); });
    const DeviceArray<T> k(static_cast<std::size_t>(keys) * kColumns,
                           [](std::size_t i) { return element<T>(value_of(i + 77777)); });
    const DeviceArray<float> out(static_cast<std::size_t>(kRows) * tiles * kKeys);
    const CUtensorMap q_map = tensor_map(q.data(), kRows, kRows, type), k_map = tensor_map(k.data(), keys, kKeys, type);
    const auto kernel = product_kernel<kBf16, kFault>;
    constexpr int kBytes = 1024 + kQueryBytes + kWgmmaStages * kTileBytes + 64;
    EXPECT_EQ(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   kBytes),
              cudaSuccess);
    if (run(kernel, 1, 160, kBytes, q_map, k_map, tiles, out.data()) != cudaSuccess) return last_error();
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t j = 0; j < static_cast<std::size_t>(tiles) * kKeys; ++j) {
        double sum = 0;
        for (std::size_t d = 0; d < kColumns && j < static_cast<std::size_t>(keys); ++d) {
          sum += double{value_of(i * kColumns + d)} * value_of(j * kColumns + d + 77777);
        }
        if (!(std::abs(sum - out[i * static_cast<std::size_t>(tiles) * kKeys + j]) < 1e-3)) return "wrong answer";
      }
    }
    return "";
  }

  // Of every schedule, until one finds the fault.
  template <WgmmaFault kFault>
  std::string found() {
    for (const Copies copies : {Copies::kLazy, Copies::kEager}) {
      for (const Schedule schedule : kSchedules) {
        Options options = options_for(schedule, 3);
        options.copies = copies;
        const WithOptions with(options);
        const std::string fault = fault_of<false, kFault>();
        if (!fault.empty()) return fault;
      }
    }
    return "";
  }
};

TEST_F(Wgmma, ProductsAreRightUnderEverySchedule) {
  for (const Copies copies : {Copies::kLazy, Copies::kEager, Copies::kRandom}) {
    for (const Schedule schedule : kSchedules) {
      Options options = options_for(schedule, 5);
      options.copies = copies;
      const WithOptions with(options);
      EXPECT_THAT((fault_of<false, WgmmaFault::kNone>()), IsEmpty());
      EXPECT_THAT((fault_of<true, WgmmaFault::kNone>(256)), IsEmpty());
    }
  }
}

TEST_F(Wgmma, CountsWhatIsDone) {
  reset_counters();
  EXPECT_THAT((fault_of<false, WgmmaFault::kNone>(256)), IsEmpty());
  EXPECT_EQ(counters().wgmma, 2 * 4 * 4);
  EXPECT_EQ(counters().tensor_copies, 3);
  EXPECT_EQ(counters().tensor_copy_bytes, kQueryBytes + 2 * kTileBytes);
}

TEST_F(Wgmma, FaultsOfBarriersAreFound) {
  EXPECT_THAT(found<WgmmaFault::kNoInitFence>(), HasSubstr("without a fence.mbarrier_init"));
  EXPECT_THAT(found<WgmmaFault::kNoFullWait>(), testing::Not(IsEmpty()));
  EXPECT_THAT(found<WgmmaFault::kWrongParity>(), testing::Not(IsEmpty()));
  EXPECT_THAT(found<WgmmaFault::kEarlyRelease>(), HasSubstr("wrong answer"));
  EXPECT_THAT(found<WgmmaFault::kNoEmptyWait>(), testing::Not(IsEmpty()));
  EXPECT_THAT(found<WgmmaFault::kTooFewBytes>(), testing::Not(IsEmpty()));
  EXPECT_THAT(found<WgmmaFault::kTooManyBytes>(), HasSubstr("an mbarrier"));
}

TEST_F(Wgmma, FaultsOfOrderAreFound) {
  EXPECT_THAT(found<WgmmaFault::kNoWgmmaFence>(), HasSubstr("no wgmma.fence"));
  EXPECT_THAT(found<WgmmaFault::kNoWgmmaWait>(), HasSubstr("wrong answer"));
  EXPECT_THAT(found<WgmmaFault::kNoCommit>(), HasSubstr("without waiting for its wgmma"));
  EXPECT_THAT(found<WgmmaFault::kWrittenBetween>(), HasSubstr("accumulator 5 has been written"));
  EXPECT_THAT(found<WgmmaFault::kDivergentGroup>(), HasSubstr("warpgroup diverges"));
  EXPECT_THAT(found<WgmmaFault::kMissingWarp>(), HasSubstr("not all four warps"));
}

TEST_F(Wgmma, FaultsOfAddressesAreFound) {
  EXPECT_THAT(found<WgmmaFault::kMisalignedBase>(), HasSubstr("begins at multiples of 1024"));
  EXPECT_THAT(found<WgmmaFault::kWrongStride>(), HasSubstr("1536 bytes apart"));
  EXPECT_THAT(found<WgmmaFault::kNoSwizzle>(), HasSubstr("the descriptor's swizzle is 2"));
}

TEST_F(Wgmma, OnlyDevicesThatHaveItRunIt) {
  Settings settings;
  settings.compute_capability = 100;
  reset_runtime(settings);
  EXPECT_THAT((fault_of<false, WgmmaFault::kNone>()), HasSubstr("wgmma is not an instruction"));
  settings.compute_capability = 80;
  reset_runtime(settings);
  EXPECT_THAT((fault_of<false, WgmmaFault::kNone>(100)),
              HasSubstr("not an instruction of devices of compute capability 8.0"));
}

// ---- setmaxnreg ----

template <int kKept, int kTaken>
__global__ void registers_kernel(int* out) {
  if (threadIdx.x < 512) {
    ag::cuda::take_registers<kTaken>();
  } else {
    ag::cuda::keep_registers<kKept>();
  }
  out[threadIdx.x] = 1;
}

TEST_F(Wgmma, RegistersThatABlockDoesNotHaveAreADeadlock) {
  const DeviceArray<int> out(640);
  EXPECT_EQ(run(registers_kernel<24, 112>, 1, 640, 0, out.data()), cudaSuccess) << last_error();
  EXPECT_EQ(run(registers_kernel<24, 120>, 1, 640, 0, out.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("registers that the block does not have"));
  EXPECT_EQ(run(registers_kernel<24, 88>, 1, 640, 0, out.data()), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("setmaxnreg.inc to 88, from 96"));
}

// ---- tensor maps ----

__global__ void box_kernel(const __grid_constant__ CUtensorMap map, int column, int row, std::uint16_t* out,
                           int bytes) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  const std::uint32_t start = ag::cuda::shared_address(shared), barrier = start + 8192;
  if (threadIdx.x != 0) return;
  ag::cuda::mbarrier_init(barrier, 1);
  ag::cuda::fence_proxy_async();
  ag::cuda::mbarrier_arrive_expect(barrier, bytes);
  copy_box(start, &map, column, row, 0, barrier);
  ag::cuda::mbarrier_wait(barrier, 0);
  for (int i = 0; i < bytes / 2; ++i) out[i] = reinterpret_cast<const std::uint16_t*>(shared)[i];
}

TEST_F(Wgmma, BoxesOverTheEndsAreZeros) {
  constexpr int kTensorRows = 10, kTensorColumns = 48;
  const DeviceArray<std::uint16_t> data(kTensorRows * kTensorColumns,
                                        [](std::size_t i) { return static_cast<std::uint16_t>(i + 1); });
  const DeviceArray<std::uint16_t> out(16 * 64);
  const CUtensorMap map = tensor_map(data.data(), kTensorRows, 16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, kTensorColumns,
                                     CU_TENSOR_MAP_SWIZZLE_NONE);
  ASSERT_EQ(run(box_kernel, 1, 1, 8256, map, 8, -2, out.data(), 16 * 128), cudaSuccess) << last_error();
  for (int r = 0; r < 16; ++r) {
    for (int c = 0; c < 64; ++c) {
      const bool inside = r >= 2 && r - 2 < kTensorRows && c + 8 < kTensorColumns;
      ASSERT_EQ(out[r * 64 + c], inside ? (r - 2) * kTensorColumns + c + 8 + 1 : 0) << r << ", " << c;
    }
  }
}

TEST_F(Wgmma, TheSwizzleIsOfTheAddressesBits) {
  const DeviceArray<std::uint16_t> data(16 * 64, [](std::size_t i) { return static_cast<std::uint16_t>(i); });
  const DeviceArray<std::uint16_t> out(16 * 64);
  const CUtensorMap map = tensor_map(data.data(), 16, 16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
  ASSERT_EQ(run(box_kernel, 1, 1, 8256, map, 0, 0, out.data(), 16 * 128), cudaSuccess) << last_error();
  // The array begins 128 bytes after a multiple of 1,024: row r is swizzled as the (r + 1)-th of a pattern.
  for (std::size_t r = 0; r < 16; ++r) {
    for (std::size_t chunk = 0; chunk < 8; ++chunk) {
      ASSERT_EQ(out[r * 64 + (chunk ^ (r + 1) % 8) * 8], r * 64 + chunk * 8) << r << ", " << chunk;
    }
  }
}

TEST_F(Wgmma, WhatIsNoMapIsNamed) {
  const DeviceArray<std::uint16_t> out(16 * 64);
  CUtensorMap map{};
  EXPECT_EQ(run(box_kernel, 1, 1, 8256, map, 0, 0, out.data(), 16 * 128), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("none that cuTensorMapEncodeTiled has made"));
  std::optional<DeviceArray<std::uint16_t>> data(std::in_place, 16 * 64);
  map = tensor_map(data->data(), 17, 16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
  EXPECT_EQ(run(box_kernel, 1, 1, 8256, map, 0, 0, out.data(), 16 * 128), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("goes beyond its allocation"));
}

// ---- texts of several instructions ----

__global__ void guarded_kernel(const float* x, float limit, float* out) {
  float* at = out + threadIdx.x * 8;
  for (int i = 0; i < 4; ++i) {
    ATTNGRAPH_PTX_MEMORY(
        "{ .reg .pred p; setp.ge.f32 p, %1, %2; @p st.global.f32 [%0 + 4], %1; @!p st.global.f32 [%0], %2; @p add.s64 "
        "%0, %0, 4; }",
        (ATTNGRAPH_IO_L(at)), (ATTNGRAPH_IN_F(x[i]), ATTNGRAPH_IN_F(limit)));
  }
}

TEST_F(Wgmma, GuardsAndOffsetsOfATextHold) {
  const float values[] = {1, 5, 2, 7};
  const DeviceArray<float> x(4, [&](std::size_t i) { return values[i]; });
  const DeviceArray<float> out(8, [](std::size_t) { return 0.0f; });
  ASSERT_EQ(run(guarded_kernel, 1, 1, 0, x.data(), 3.0f, out.data()), cudaSuccess) << last_error();
  const float expected[] = {3, 3, 7, 0};  // 3 below the limit; 5 at place 1, then 3 over it; 7 after it
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(out[i], expected[i]) << i;
}

TEST(PtxBlocks, FaultsAreNamed) {
  std::uint32_t r = 0;
  const std::vector<Operand> outputs{output_r(OperandKind::kOutR, r)}, inputs{input_r(1u), input_r(0u)};
  const auto error = [&](const char* text) { return ptx_error(text, true, outputs, inputs); };
  EXPECT_EQ(error("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"), "");
  EXPECT_THAT(error("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 q, [%1], %2; selp.u32 %0, 1, 0, p; }"),
              HasSubstr("cannot be read"));
  EXPECT_THAT(error("{ .reg .b64 p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"),
              HasSubstr("a register of the text"));
  EXPECT_THAT(error("{ .reg .f16 p; selp.u32 %0, 1, 0, p; }"), HasSubstr(".pred or .b64"));
  EXPECT_THAT(error("{ .reg .pred p; @q selp.u32 %0, 1, 0, p; }"), HasSubstr("'q' is no predicate"));
}

}  // namespace
}  // namespace ag::emu
