// SPDX-License-Identifier: Apache-2.0
// Operands of the score passes: every element at its place, zeros behind, f32 in two parts that lose almost nothing.
#include <cmath>
#include <vector>

#include "../../cuda/common/stages.hpp"
#include "device_problem.hpp"
#include "support/inputs.hpp"
#include "support/random.hpp"
#include "support/tensor.hpp"

namespace ag::test {
namespace {

constexpr std::int64_t kRows = 11, kFirst = 3, kCount = 8;

class Operands : public ::testing::TestWithParam<std::int64_t> {
 protected:
  static Tensor tensor(DType dtype, Storage storage, double size) {
    Random random(5);
    std::vector<double> values = random.normals(static_cast<std::size_t>(3 * kRows * GetParam()));
    for (double& x : values) x *= size;
    return Tensor(dtype, {1, 3, kRows, GetParam()}, values, layout_of(storage));
  }
  // f(head, row of the tensor, column, index of the first of the output's elements of this pair, for one row of
  // `width`)
  template <class F>
  static void for_each_element(std::int64_t pitch, F&& f) {
    for (std::size_t n = 0; n < static_cast<std::size_t>(2 * kCount); ++n) {
      for (std::int64_t d = 0; d < pitch; ++d) {
        const auto r = static_cast<std::int64_t>(n);
        f(r / kCount == 0 ? 0 : 2, kFirst + r % kCount, d, r);
      }
    }
  }
  static std::int64_t pitch() { return (GetParam() + 15) / 16 * 16 + (GetParam() > 64 ? 16 : 0); }
};

TEST_P(Operands, SixteenBitRowsAreCopiedAndPadded) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const Storage storage : {Storage::kRowMajor, Storage::kDimensionOutside, Storage::kReversed}) {
      SCOPED_TRACE(fmt::format("{} storage {}", name_of(dtype), static_cast<int>(storage)));
      const Tensor source = tensor(dtype, storage, 1.0);
      const DeviceTensor device(source.view());
      const DeviceArray<std::int64_t> heads(std::vector<std::int64_t>{0, 2});
      for_every_schedule([&] {
        const DeviceArray<std::uint16_t> out(static_cast<std::size_t>(2 * kCount * pitch()));
        cuda_ok(cuda::launch_prepare_operands(device.of_batch(0), heads.data(), 2, kFirst, kCount, GetParam(),
                                              static_cast<std::int32_t>(dtype), pitch(), 0, out.data(),
                                              kDefaultStream));
        wait_for_device();
        const std::vector<std::uint16_t> actual = out.download();
        for_each_element(pitch(), [&](std::int64_t head, std::int64_t row, std::int64_t d, std::int64_t r) {
          const std::uint16_t expected =
              d < GetParam() ? load_as<std::uint16_t>(source.view().at(0, head, row, d)) : std::uint16_t{0};
          ASSERT_EQ(actual[static_cast<std::size_t>(r * pitch() + d)], expected) << "row " << r << ", column " << d;
        });
      });
    }
  }
}

TEST_P(Operands, SplitFloatsKeepTwentyTwoBits) {
  for (const double size : {1.0, 1e30, 1e-30, 3e-39}) {
    SCOPED_TRACE(size);
    const Tensor source = tensor(DType::kF32, Storage::kPadded, size);
    double largest = 0;
    for (std::size_t n = 0; n < source.size(); ++n) largest = std::max(largest, std::abs(source.value(n)));
    int exponent = 0;
    std::frexp(largest, &exponent);
    exponent = 10 - exponent;  // largest * 2^exponent in [2^9, 2^10)
    const DeviceTensor device(source.view());
    const DeviceArray<std::int64_t> heads(std::vector<std::int64_t>{0, 2});
    const DeviceArray<std::uint16_t> out(static_cast<std::size_t>(2 * kCount * 2 * pitch()));
    cuda_ok(cuda::launch_prepare_operands(device.of_batch(0), heads.data(), 2, kFirst, kCount, GetParam(),
                                          static_cast<std::int32_t>(DType::kF32), pitch(), exponent, out.data(),
                                          kDefaultStream));
    wait_for_device();
    const std::vector<std::uint16_t> actual = out.download();
    for_each_element(pitch(), [&](std::int64_t head, std::int64_t row, std::int64_t d, std::int64_t r) {
      const auto at = static_cast<std::size_t>(r * 2 * pitch() + d);
      const double high = promote(F16{actual[at]}), low = promote(F16{actual[at + static_cast<std::size_t>(pitch())]});
      if (d >= GetParam()) {
        ASSERT_EQ(high, 0.0);
        ASSERT_EQ(low, 0.0);
        return;
      }
      const double x = std::ldexp(load_double(DType::kF32, source.view().at(0, head, row, d)), exponent);
      ASSERT_LT(std::abs(high + low), 1024.0);
      ASSERT_LE(std::abs(low), std::abs(x) * 0x1p-11 + 0x1p-25) << "high is the nearest f16";
      ASSERT_LE(std::abs(high + low - x), std::abs(x) * 0x1p-22 + 0x1p-25) << "row " << r << ", column " << d;
    });
  }
}

TEST_P(Operands, FloatsComeAsTheyAre) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    SCOPED_TRACE(name_of(dtype));
    const Tensor source = tensor(dtype, Storage::kTokensOutside, 2.0);
    const DeviceTensor device(source.view());
    const DeviceArray<std::int64_t> heads(std::vector<std::int64_t>{0, 2});
    const DeviceArray<float> out(static_cast<std::size_t>(2 * kCount * pitch()));
    cuda_ok(cuda::launch_prepare_f32(device.of_batch(0), heads.data(), 2, kFirst, kCount, GetParam(), pitch(),
                                     out.data(), kDefaultStream));
    wait_for_device();
    const std::vector<float> actual = out.download();
    for_each_element(pitch(), [&](std::int64_t head, std::int64_t row, std::int64_t d, std::int64_t r) {
      const double expected = d < GetParam() ? load_double(dtype, source.view().at(0, head, row, d)) : 0.0;
      ASSERT_EQ(static_cast<double>(actual[static_cast<std::size_t>(r * pitch() + d)]), expected);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Dimensions, Operands, ::testing::Values(1, 15, 16, 64, 80, 100));

TEST(OperandArguments, WhatContradictsTheContractIsRefused) {
  const cuda::AnyTensor f32{nullptr, static_cast<std::int32_t>(DType::kF32), 0, 8, 1};
  const auto prepare = [&](std::int64_t dim, DType dtype, std::int64_t pitch, std::int32_t exponent) {
    return cuda::launch_prepare_operands(f32, nullptr, 1, 0, 1, dim, static_cast<std::int32_t>(dtype), pitch, exponent,
                                         nullptr, kDefaultStream);
  };
  EXPECT_EQ(prepare(8, DType::kF16, 16, 0), cudaErrorInvalidValue);   // another type
  EXPECT_EQ(prepare(17, DType::kF32, 16, 0), cudaErrorInvalidValue);  // longer than the pitch
  EXPECT_EQ(prepare(8, DType::kF32, 24, 0), cudaErrorInvalidValue);
  EXPECT_EQ(prepare(8, DType::kF32, 16, 1024), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ag::test
