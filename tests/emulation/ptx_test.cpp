// SPDX-License-Identifier: Apache-2.0
// PTX: texts with a fault are refused or give wrong answers; addresses are checked; copies arrive when they are waited
// for.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "../../cuda/device/ptx.cuh"
#include "tensor_core.hpp"
#include "test_support.hpp"

namespace ag::emu {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// ---- texts ----

class PtxText : public testing::Test {
 protected:
  std::uint32_t r_[8] = {};
  float f_[8] = {};
  alignas(16) unsigned char bytes_[64] = {};
  const void* global_ = bytes_;

  std::vector<Operand> sums() {
    return {output_f(OperandKind::kIoF, f_[0]), output_f(OperandKind::kIoF, f_[1]), output_f(OperandKind::kIoF, f_[2]),
            output_f(OperandKind::kIoF, f_[3])};
  }
  std::vector<Operand> fragments() {
    return {input_r(r_[0]), input_r(r_[1]), input_r(r_[2]), input_r(r_[3]), input_r(r_[4]), input_r(r_[5])};
  }
};

constexpr char kMma[] =
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};";

TEST_F(PtxText, CorrectTextsAreTaken) {
  EXPECT_EQ(ptx_error(kMma, false, sums(), fragments()), "");
  EXPECT_EQ(ptx_error("cp.async.cg.shared.global [%0], [%1], 16;", true, {}, {input_shared(bytes_), input_l(global_)}),
            "");
  EXPECT_EQ(ptx_error("cp.async.cg.shared.global [%0], [%1], 16, %2;", true, {},
                      {input_shared(bytes_), input_l(global_), input_r(8)}),
            "");
  EXPECT_EQ(ptx_error("cp.async.commit_group;", true, {}, {}), "");
  EXPECT_EQ(ptx_error("cp.async.wait_group %0;", true, {}, {constant<2>()}), "");
  EXPECT_EQ(ptx_error(" ex2.approx.ftz.f32  %0 , %1 ; ", false, {output_f(OperandKind::kOutF, f_[0])}, {input_f(1)}),
            "");
}

TEST_F(PtxText, UnknownOpcodeIsNamed) {
  EXPECT_THAT(
      ptx_error("mma.sync.aligned.m16n8k16.row.row.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};",
                false, sums(), fragments()),
      AllOf(HasSubstr("row.row"), HasSubstr("not known")));
}

TEST_F(PtxText, WrongConstraintIsNamed) {
  EXPECT_THAT(ptx_error("ex2.approx.ftz.f32 %0, %1;", false, {output_r(OperandKind::kOutR, r_[0])}, {input_f(1)}),
              HasSubstr("%0 is \"=r\""));
  EXPECT_THAT(ptx_error("ex2.approx.ftz.f32 %0, %1;", false, {output_f(OperandKind::kOutF, f_[0])}, {input_r(1)}),
              HasSubstr("%1 is \"r\""));
  std::vector<Operand> only_written = sums();
  for (Operand& operand : only_written) operand.kind = OperandKind::kOutF;
  EXPECT_THAT(ptx_error(kMma, false, only_written, fragments()), HasSubstr("is read and is only an output"));
  std::vector<Operand> all = sums();
  for (Operand& operand : all) operand.kind = OperandKind::kInF;
  std::vector<Operand> inputs = all;
  for (const Operand& operand : fragments()) inputs.push_back(operand);
  EXPECT_THAT(ptx_error(kMma, false, {}, inputs), HasSubstr("is written and is no output"));
}

TEST_F(PtxText, SwappedAddressesAreNamed) {
  EXPECT_THAT(
      ptx_error("cp.async.cg.shared.global [%1], [%0], 16;", true, {}, {input_shared(bytes_), input_l(global_)}),
      HasSubstr("%1 is \"l\"; its place takes s"));
}

TEST_F(PtxText, GroupsOfTheWrongSizeAreNamed) {
  EXPECT_THAT(ptx_error("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2}, [%3];", true,
                        {output_r(OperandKind::kOutR, r_[0]), output_r(OperandKind::kOutR, r_[1]),
                         output_r(OperandKind::kOutR, r_[2])},
                        {input_shared(bytes_)}),
              HasSubstr("should read ={rrrr}"));
}

TEST_F(PtxText, OperandsThatAreMissingOrUnusedAreNamed) {
  EXPECT_THAT(ptx_error("ex2.approx.ftz.f32 %0, %2;", false, {output_f(OperandKind::kOutF, f_[0])}, {input_f(1)}),
              HasSubstr("%2 is not among the operands"));
  EXPECT_THAT(
      ptx_error("ex2.approx.ftz.f32 %0, %1;", false, {output_f(OperandKind::kOutF, f_[0])}, {input_f(1), input_f(2)}),
      HasSubstr("%2 is given and the text does not use it"));
  EXPECT_THAT(ptx_error("cp.async.wait_group;", true, {}, {}), HasSubstr("missing"));
  EXPECT_THAT(ptx_error("cp.async.commit_group 1;", true, {}, {}), HasSubstr("too many"));
}

TEST_F(PtxText, PunctuationAndSecondInstructionsAreNamed) {
  EXPECT_THAT(ptx_error("cp.async.commit_group", true, {}, {}), HasSubstr("cannot be read"));
  EXPECT_THAT(ptx_error("cp.async.commit_group; cp.async.wait_all;", true, {}, {}),
              HasSubstr("one instruction a text"));
  EXPECT_THAT(ptx_error("ex2.approx.ftz.f32 %0 %1;", false, {output_f(OperandKind::kOutF, f_[0])}, {input_f(1)}),
              HasSubstr("';' is missing"));
}

TEST_F(PtxText, MemoryClobberHasToFitTheInstruction) {
  EXPECT_THAT(ptx_error("cp.async.commit_group;", false, {}, {}), HasSubstr("ATTNGRAPH_PTX_MEMORY"));
  EXPECT_THAT(ptx_error(kMma, true, sums(), fragments()), HasSubstr("use ATTNGRAPH_PTX"));
}

__global__ void bad_text_kernel() { ATTNGRAPH_PTX_MEMORY("cp.async.commit_grup;", (), ()); }

TEST_F(PtxText, FaultFailsTheKernelAtItsLine) {
  EXPECT_EQ(run(bad_text_kernel, 1, 1, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(),
              AllOf(HasSubstr("cp.async.commit_grup"), HasSubstr("ptx_test.cpp:"), HasSubstr("not known")));
}

// ---- mma: register faults in the text change the answer ----

enum class Planted { kNone, kSwappedA, kSwappedB, kOtherType, kTransposed };

template <Planted kFault>
__device__ void mma_with_fault(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
#define ATTNGRAPH_TEST_MMA(text)                                                                                \
  ATTNGRAPH_PTX(text, (ATTNGRAPH_IO_F(c[0]), ATTNGRAPH_IO_F(c[1]), ATTNGRAPH_IO_F(c[2]), ATTNGRAPH_IO_F(c[3])), \
                (ATTNGRAPH_IN_R(a[0]), ATTNGRAPH_IN_R(a[1]), ATTNGRAPH_IN_R(a[2]), ATTNGRAPH_IN_R(a[3]),        \
                 ATTNGRAPH_IN_R(b0), ATTNGRAPH_IN_R(b1)))
  if constexpr (kFault == Planted::kSwappedA) {
    ATTNGRAPH_TEST_MMA(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %6, %5, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};");
  } else if constexpr (kFault == Planted::kSwappedB) {
    ATTNGRAPH_TEST_MMA(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%9, %8}, {%0, %1, %2, "
        "%3};");
  } else if constexpr (kFault == Planted::kOtherType) {
    ATTNGRAPH_TEST_MMA(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};");
  } else {
    ag::cuda::mma_f16(c, a, b0, b1);
  }
#undef ATTNGRAPH_TEST_MMA
}

template <bool kTransposed>
__device__ void load_fragment(std::uint32_t (&r)[4], const void* p) {
  if constexpr (kTransposed) {
    ATTNGRAPH_PTX_MEMORY("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];",
                         (ATTNGRAPH_OUT_R(r[0]), ATTNGRAPH_OUT_R(r[1]), ATTNGRAPH_OUT_R(r[2]), ATTNGRAPH_OUT_R(r[3])),
                         (ATTNGRAPH_IN_SHARED(p)));
  } else {
    ag::cuda::ldmatrix_x4(r, p);
  }
}

// c += a b^T for a 16x16, b 8x16, both row-major.
template <Planted kFault>
__global__ void tile_kernel(const __half* a, const __half* b, float* c) {
  struct alignas(16) Tile {
    __half a[256];
    __half b[128];
  };
  ATTNGRAPH_SHARED(s_tile, Tile);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) s_tile.a[i] = a[i];
  for (int i = lane; i < 128; i += 32) s_tile.b[i] = b[i];
  __syncthreads();
  std::uint32_t fragment_a[4];
  std::uint32_t fragment_b[4];
  load_fragment<kFault == Planted::kTransposed>(fragment_a, s_tile.a + lane % 16 * 16 + lane / 16 * 8);
  load_fragment<false>(fragment_b, s_tile.b + lane % 8 * 16 + lane / 8 % 2 * 8);
  float sums[4];
  for (int e = 0; e < 4; ++e) sums[e] = c[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2];
  mma_with_fault<kFault>(sums, fragment_a, fragment_b[0], fragment_b[1]);
  for (int e = 0; e < 4; ++e) c[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = sums[e];
}

template <Planted kFault>
double tile_error() {
  const DeviceArray<__half> a(256, [](std::size_t i) { return __float2half(static_cast<float>(i * 37 % 101) / 16); });
  const DeviceArray<__half> b(128,
                              [](std::size_t i) { return __float2half(static_cast<float>(i * 29 % 97) / 16 - 3); });
  const DeviceArray<float> c(128, [](std::size_t i) { return static_cast<float>(i); });
  EXPECT_EQ(run(tile_kernel<kFault>, 1, 32, 0, a.data(), b.data(), c.data()), cudaSuccess) << last_error();
  double worst = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 8; ++j) {
      double sum = static_cast<double>(i * 8 + j);
      for (std::size_t k = 0; k < 16; ++k) sum += double{__half2float(a[i * 16 + k])} * __half2float(b[j * 16 + k]);
      worst = std::max(worst, std::abs(sum - c[i * 8 + j]));
    }
  }
  return worst;
}

TEST(PtxMma, FaultsInTheTextChangeTheAnswer) {
  EXPECT_LT(tile_error<Planted::kNone>(), 1e-4);
  EXPECT_GT(tile_error<Planted::kSwappedA>(), 1);
  EXPECT_GT(tile_error<Planted::kSwappedB>(), 1);
  EXPECT_GT(tile_error<Planted::kOtherType>(), 1);
  EXPECT_GT(tile_error<Planted::kTransposed>(), 1);
}

__global__ void half_values_kernel(const std::uint32_t* bits, float* out) {
  const int lane = static_cast<int>(threadIdx.x);
  // a[0][0] is the value, b is 1 in its first column: c[0][0] is the value.
  const std::uint32_t one = lane == 0 ? 0x3c00u : 0u;
  for (int i = 0; i < 65536; ++i) {
    if ((i & 0x7c00) == 0x7c00) continue;  // infinity times 0
    const std::uint32_t a[4] = {lane == 0 ? bits[i] : 0u, 0, 0, 0};
    float c[4] = {};
    ag::cuda::mma_f16(c, a, one, 0);
    if (lane == 0) out[i] = c[0];
  }
}

TEST(PtxMma, EveryFiniteHalfIsRead) {
  const DeviceArray<std::uint32_t> bits(65536, [](std::size_t i) { return static_cast<std::uint32_t>(i); });
  const DeviceArray<float> out(65536);
  ASSERT_EQ(run(half_values_kernel, 1, 32, 0, bits.data(), out.data()), cudaSuccess) << last_error();
  int wrong = 0;
  for (std::size_t i = 0; i < 65536; ++i) {
    const __half value = __ushort_as_half(static_cast<unsigned short>(i));
    if ((i & 0x7c00) != 0x7c00 && out[i] != __half2float(value)) ++wrong;
  }
  EXPECT_EQ(wrong, 0);
}

__global__ void warp_of_31_kernel() {
  float c[4] = {};
  const std::uint32_t a[4] = {};
  ag::cuda::mma_bf16(c, a, 0, 0);
}

__global__ void divergent_mma_kernel() {
  float c[4] = {};
  const std::uint32_t a[4] = {};
  if (threadIdx.x != 7) ag::cuda::mma_bf16(c, a, 0, 0);
}

TEST(PtxMma, NeedsAllLanes) {
  EXPECT_EQ(run(warp_of_31_kernel, 1, 31, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), AllOf(HasSubstr("mma (bf16) needs all 32 lanes"), HasSubstr("0x80000000")));
  EXPECT_EQ(run(divergent_mma_kernel, 1, 32, 0), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("mma (bf16)"));
}

// As measured: two bits are kept below the accumulator's last place, and what is below them is cut off, not rounded.
TEST(TensorCore, CutsOffTowardsZeroBelowTwoBitsUnderTheAccumulator) {
  float ones[16], small[16];
  const auto sum_of = [&](float c, float product) {
    for (int k = 0; k < 16; ++k) {
      ones[k] = 1;
      small[k] = product;
    }
    return tensor_core_dot(c, ones, small, 16);
  };
  EXPECT_EQ(sum_of(1, 0x1p-25f), 1 + 0x1p-21f);
  EXPECT_EQ(sum_of(1, 0x1p-26f), 1);
  EXPECT_EQ(sum_of(1, 0x1.8p-25f), 1 + 0x1p-21f) << "the half of each product is cut off";
  EXPECT_EQ(sum_of(-1, -0x1.8p-25f), -(1 + 0x1p-21f)) << "towards zero";
  EXPECT_EQ(sum_of(0, 0x1p-26f), 0x1p-22f);
  EXPECT_EQ(sum_of(3, -0.5f), -5);
  EXPECT_EQ(sum_of(INFINITY, 1), INFINITY);
  EXPECT_EQ(sum_of(0, 0), 0);
}

TEST(TensorCore, ExponentialsAreALittleTooSmall) {
  double mean = 0, least = 0, most = 0;
  for (int n = 0; n < 4096; ++n) {
    const float x = -1.001f - 20 * static_cast<float>(n) / 4096;
    const double exact = std::exp2(static_cast<double>(x));
    const double error = (static_cast<double>(approximate_exp2(x)) - exact) / (exact * 0x1p-24);
    mean += error / 4096;
    least = std::min(least, error);
    most = std::max(most, error);
  }
  EXPECT_NEAR(mean, -0.84, 0.1);
  EXPECT_GE(least, -2.42);
  EXPECT_LE(most, 2.45);
}

__global__ void exp2_kernel(const float* x, float* y) { y[threadIdx.x] = ag::cuda::exp2_approx(x[threadIdx.x]); }

TEST(PtxMath, Exp2FlushesAndKeepsItsEnds) {
  const float values[] = {0, 1, -1, 0.5f, -126, -127, -1000, -INFINITY, 127, 128, NAN};
  const DeviceArray<float> x(11, [&](std::size_t i) { return values[i]; });
  const DeviceArray<float> y(11);
  ASSERT_EQ(run(exp2_kernel, 1, 11, 0, x.data(), y.data()), cudaSuccess) << last_error();
  const float expected[] = {1, 2, 0.5f, 1.41421356f, 0x1p-126f, 0, 0, 0, 0x1p127f, INFINITY};
  for (std::size_t i = 0; i < 10; ++i) EXPECT_FLOAT_EQ(y[i], expected[i]) << i;
  EXPECT_TRUE(std::isnan(y[10]));
}

}  // namespace
}  // namespace ag::emu
