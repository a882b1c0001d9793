// SPDX-License-Identifier: Apache-2.0
// Operands of the score passes: every element at its place, zeros behind, f32 in two parts that lose almost nothing.
#include <cmath>
#include <vector>

#include "../../cuda/stages/stages.hpp"
#include "device_problem.hpp"
#include "support/inputs.hpp"
#include "support/random.hpp"
#include "support/tensor.hpp"

namespace ag::test {
namespace {

constexpr std::int64_t kRows = 11, kFirst = 3, kCount = 8, kKeys = 9, kKeyRows = 7;

// Queries [kFirst, kFirst + kCount) of heads 0 and 2, and kKeyRows of kKeys keys of head 1.
struct Prepared {
  std::vector<std::byte> q, k;
};
Prepared prepare(const Tensor& tensor, std::int64_t pitch, bool split, bool packed, int exponent) {
  const TensorView& view = tensor.view();
  const DeviceTensor device(view);
  const DeviceArray<std::int64_t> ids(std::vector<std::int64_t>{0, 2});
  cuda::Chunk chunk;
  chunk.heads = 2;
  chunk.query_begin = kFirst;
  chunk.queries = kCount;
  chunk.all_queries = kRows;
  chunk.keys = kKeys;
  chunk.mask.key_count = kKeyRows;
  chunk.head_dim = view.shape[3];
  chunk.head_ids = ids.data();
  chunk.q = device.of_batch(0);
  chunk.k = device.of_batch(0, 1, false);
  cuda::ChunkFacts facts;
  facts.units.q_exponent = exponent;
  facts.units.k_exponent = exponent;
  const DeviceArray<cuda::Chunk> d_chunk(std::vector<cuda::Chunk>{chunk});
  const DeviceArray<cuda::ChunkFacts> d_facts(std::vector<cuda::ChunkFacts>{facts});
  cuda::Operands operands;
  operands.dtype = chunk.q.dtype;
  operands.split = split;
  operands.packed = packed;
  operands.pitch = pitch;
  const DeviceArray<std::byte> q(static_cast<std::size_t>(2 * kCount * operands.row_bytes()));
  const DeviceArray<std::byte> k(static_cast<std::size_t>(kKeys * operands.row_bytes()));
  operands.q = q.data();
  operands.k = k.data();
  const cuda::RowStorage storage = cuda::row_storage({&chunk, 1}, view.dtype, chunk.head_dim);
  cuda_ok(cuda::launch_prepare_operands(DeviceChunk::batch_of(chunk, d_chunk.data(), d_facts.data()), operands, storage,
                                        kDefaultStream));
  wait_for_device();
  return {q.download(), k.download()};
}

class Operands : public ::testing::TestWithParam<std::int64_t> {
 protected:
  static Tensor tensor(DType dtype, Storage storage, double size) {
    Random random(5);
    std::vector<double> values = random.normals(static_cast<std::size_t>(3 * kRows * GetParam()));
    for (double& x : values) x *= size;
    return Tensor(dtype, {1, 3, kRows, GetParam()}, values, layout_of(storage));
  }
  // f(elements, head, row of the tensor or -1 for zeros, column, row of the output) for every element of both.
  template <class F>
  static void for_each_element(const Prepared& made, bool packed, F&& f) {
    for (std::int64_t d = 0; d < pitch(); ++d) {
      for (std::int64_t r = 0; r < 2 * kCount; ++r) {
        const std::int64_t g = packed ? r % 2 : r / kCount, i = packed ? r / 2 : r % kCount;
        f(made.q.data(), 2 * g, kFirst + i, d, r);
      }
      for (std::int64_t r = 0; r < kKeys; ++r) f(made.k.data(), 1, r < kKeyRows ? r : -1, d, r);
    }
  }
  static std::int64_t pitch() { return (GetParam() + 15) / 16 * 16 + (GetParam() > 64 ? 16 : 0); }
};

TEST_P(Operands, SixteenBitRowsAreCopiedAndPadded) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const Storage storage : {Storage::kRowMajor, Storage::kDimensionOutside, Storage::kReversed}) {
      for (const bool packed : {false, true}) {
        SCOPED_TRACE(fmt::format("{} storage {} packed {}", name_of(dtype), static_cast<int>(storage), packed));
        const Tensor source = tensor(dtype, storage, 1.0);
        for_every_schedule([&] {
          for_each_element(
              prepare(source, pitch(), false, packed, 0), packed,
              [&](const std::byte* out, std::int64_t head, std::int64_t row, std::int64_t d, std::int64_t r) {
                const std::uint16_t expected = d < GetParam() && row >= 0
                                                   ? load_as<std::uint16_t>(source.view().at(0, head, row, d))
                                                   : std::uint16_t{0};
                ASSERT_EQ(load_as<std::uint16_t>(out + 2 * (r * pitch() + d)), expected)
                    << "row " << r << ", column " << d;
              });
        });
      }
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
    for_each_element(
        prepare(source, pitch(), true, true, exponent), true,
        [&](const std::byte* out, std::int64_t head, std::int64_t row, std::int64_t d, std::int64_t r) {
          const std::byte* const element = out + 2 * (r * 2 * pitch() + d);
          const double high = promote(F16{load_as<std::uint16_t>(element)});
          const double low = promote(F16{load_as<std::uint16_t>(element + 2 * pitch())});
          if (d >= GetParam() || row < 0) {
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
  const Tensor source = tensor(DType::kF32, Storage::kTokensOutside, 2.0);
  for_each_element(prepare(source, pitch(), false, false, 0), false,
                   [&](const std::byte* out, std::int64_t head, std::int64_t row, std::int64_t d, std::int64_t r) {
                     const double expected =
                         d < GetParam() && row >= 0 ? load_double(DType::kF32, source.view().at(0, head, row, d)) : 0.0;
                     ASSERT_EQ(static_cast<double>(load_as<float>(out + 4 * (r * pitch() + d))), expected);
                   });
}

INSTANTIATE_TEST_SUITE_P(Dimensions, Operands, ::testing::Values(1, 15, 16, 64, 80, 100));

TEST(OperandArguments, WhatContradictsTheContractIsRefused) {
  const auto prepare_with = [](std::int64_t dim, DType dtype, std::int64_t pitch) {
    cuda::Batch batch;
    batch.count = 1;
    batch.head_dim = dim;
    batch.dtype = static_cast<std::int32_t>(DType::kF32);
    cuda::Operands operands;
    operands.dtype = static_cast<std::int32_t>(dtype);
    operands.pitch = pitch;
    return cuda::launch_prepare_operands(batch, operands, cuda::RowStorage::kNear, kDefaultStream);
  };
  EXPECT_EQ(prepare_with(8, DType::kF16, 16), cudaErrorInvalidValue);   // another type
  EXPECT_EQ(prepare_with(17, DType::kF32, 16), cudaErrorInvalidValue);  // longer than the pitch
  EXPECT_EQ(prepare_with(8, DType::kF32, 24), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ag::test
