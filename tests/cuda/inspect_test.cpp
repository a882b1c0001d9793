// SPDX-License-Identifier: Apache-2.0
// Norms of rows and faults of masks against plain loops.
#include <cmath>
#include <limits>
#include <vector>

#include "../../cuda/stages/stages.hpp"
#include "device_problem.hpp"
#include "support/inputs.hpp"
#include "support/random.hpp"
#include "support/tensor.hpp"

namespace ag::test {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Norms of all rows of some heads as queries, and of head 1 (or the only one) as keys.
struct Norms {
  std::vector<double> queries, keys;
};
Norms device_norms(const Tensor& tensor, const std::vector<std::int64_t>& heads) {
  const TensorView& view = tensor.view();
  const std::int64_t rows = view.shape[2], key_head = view.shape[1] > 1 ? 1 : 0;
  const DeviceTensor device(view);
  const DeviceArray<std::int64_t> ids(heads);
  const DeviceArray<double> queries(heads.size() * static_cast<std::size_t>(rows)),
      keys(static_cast<std::size_t>(rows));
  cuda::Chunk chunk;
  chunk.heads = static_cast<std::int64_t>(heads.size());
  chunk.queries = 1;  // a range does not matter here
  chunk.all_queries = rows;
  chunk.keys = chunk.mask.key_count = rows;
  chunk.head_dim = view.shape[3];
  chunk.head_ids = ids.data();
  chunk.q = device.of_batch(0);
  chunk.k = device.of_batch(0, key_head, false);
  chunk.q_norms = queries.data();
  chunk.k_norms = keys.data();
  const DeviceArray<cuda::Chunk> d_chunk(std::vector<cuda::Chunk>{chunk});
  const cuda::RowStorage storage = cuda::row_storage({&chunk, 1}, view.dtype, chunk.head_dim);
  cuda_ok(cuda::launch_inspect_rows(DeviceChunk::batch_of(chunk, d_chunk.data(), nullptr), storage, kDefaultStream));
  wait_for_device();
  return {queries.download(), keys.download()};
}

TEST(InspectRows, NormsAreThoseOfEveryTypeAndLayout) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (const Storage storage : {Storage::kRowMajor, Storage::kTokensOutside, Storage::kDimensionOutside,
                                  Storage::kReversed, Storage::kPadded}) {
      for (const std::int64_t dim : {1, 31, 64, 200}) {
        SCOPED_TRACE(fmt::format("{} storage {} D {}", name_of(dtype), static_cast<int>(storage), dim));
        Random random(3);
        const Tensor tensor(dtype, {1, 3, 13, dim}, random.normals(static_cast<std::size_t>(3 * 13 * dim)),
                            layout_of(storage));
        for_every_schedule([&] {
          const Norms norms = device_norms(tensor, {0, 2});
          for (std::size_t n = 0; n < norms.queries.size(); ++n) {
            const auto head = static_cast<std::int64_t>(n / 13 * 2), row = static_cast<std::int64_t>(n % 13);
            EXPECT_NEAR(norms.queries[n], row_length(tensor.view(), 0, head, row), 1e-12 * norms.queries[n]) << n;
          }
          for (std::size_t n = 0; n < norms.keys.size(); ++n) {
            const double expected = row_length(tensor.view(), 0, 1, static_cast<std::int64_t>(n));
            EXPECT_NEAR(norms.keys[n], expected, 1e-12 * expected) << "key " << n;
          }
        });
      }
    }
  }
}

TEST(InspectRows, SquaresNeitherOverflowNorVanish) {
  std::vector<double> values(4 * 40, 0.0);
  values[0] = 1e300, values[39] = -1e300;    // length 1.4e300
  values[40] = 3e-320, values[41] = 4e-320;  // subnormal
  values[80] = 1.7e308;
  const Tensor tensor(DType::kF64, {1, 1, 4, 40}, values);
  const std::vector<double> norms = device_norms(tensor, {0}).queries;
  EXPECT_NEAR(norms[0] / 1e300, std::sqrt(2.0), 1e-12);
  EXPECT_NEAR(norms[1] / 5e-320, 1.0, 1e-3);
  EXPECT_NEAR(norms[2] / 1.7e308, 1.0, 1e-12);
  EXPECT_EQ(norms[3], 0.0);
}

TEST(InspectRows, RowsThatHoldNanOrInfinityAreNan) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    SCOPED_TRACE(name_of(dtype));
    std::vector<double> values(5 * 70, 1.0);
    values[69] = kNan;
    values[70] = HUGE_VAL;
    values[2 * 70 + 33] = -HUGE_VAL;
    const Tensor tensor(dtype, {1, 1, 5, 70}, values);
    const std::vector<double> norms = device_norms(tensor, {0}).keys;
    for (const std::size_t n : {0u, 1u, 2u}) EXPECT_TRUE(std::isnan(norms[n])) << n;
    for (const std::size_t n : {3u, 4u}) EXPECT_NEAR(norms[n], std::sqrt(70.0), 1e-12) << n;
    // Rows that are read by 16 bytes: each place of a word, in two rows.
    for (std::size_t d = 0; d < 16; ++d) {
      std::vector<double> in_words(3 * 16, 1.0);
      in_words[d] = kNan;
      in_words[16 + d] = -HUGE_VAL;
      const std::vector<double> of_words = device_norms(Tensor(dtype, {1, 1, 3, 16}, in_words), {0}).keys;
      EXPECT_TRUE(std::isnan(of_words[0]) && std::isnan(of_words[1])) << d;
      EXPECT_NEAR(of_words[2], 4.0, 1e-12);
    }
  }
}

// The fault that the device finds in a mask of [1, heads, queries, keys].
cuda::DeviceFault device_fault(Inputs& inputs, const TensorView& mask) {
  Problem& problem = inputs.problem();
  problem.mask.tensor = mask;
  const DeviceProblem device(problem);
  DeviceChunk made = device.chunk(0, problem.heads, problem.query_begin, problem.query_end);
  for (const double norm : made.q_norms.download()) made.facts.bad_queries += std::isnan(norm) ? 1 : 0;
  const DeviceArray<cuda::DeviceFault> fault(std::vector<cuda::DeviceFault>(1));
  cuda_ok(cuda::launch_inspect_mask(made.table(), fault.data(), kDefaultStream));
  wait_for_device();
  return fault.download()[0];
}

TEST(InspectMask, TheFirstFaultOfTheAnswersOrderIsFound) {
  constexpr std::int64_t kQueries = 9, kKeys = 150;
  Inputs inputs({.name = "mask", .query_heads = 2, .key_heads = 1, .queries = kQueries, .keys = kKeys, .head_dim = 4});
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    SCOPED_TRACE(name_of(dtype));
    std::vector<double> values(2 * kQueries * kKeys, 0.5);
    values[7] = -HUGE_VAL;
    values[11] = lowest_of(dtype);
    const Tensor clean(dtype, {1, 2, kQueries, kKeys}, values);
    EXPECT_FALSE(device_fault(inputs, clean.view()).found());
    values[static_cast<std::size_t>(12 * kKeys + 140)] = HUGE_VAL;
    values[static_cast<std::size_t>(12 * kKeys + 149)] = kNan;
    values[static_cast<std::size_t>(16 * kKeys)] = kNan;
    const Tensor faulty(dtype, {1, 2, kQueries, kKeys}, values);
    for_every_schedule([&] {
      const cuda::DeviceFault fault = device_fault(inputs, faulty.view());
      ASSERT_TRUE(fault.found());
      EXPECT_EQ(fault.place(), 12 * kKeys + 140);
      EXPECT_EQ(fault.value, HUGE_VAL);
    });
    values[static_cast<std::size_t>(12 * kKeys + 139)] = kNan;
    const Tensor nan(dtype, {1, 2, kQueries, kKeys}, values);
    const cuda::DeviceFault fault = device_fault(inputs, nan.view());
    EXPECT_EQ(fault.place(), 12 * kKeys + 139);
    EXPECT_TRUE(std::isnan(fault.value));
  }
}

TEST(InspectMask, PairsThatOtherRulesMaskAreNotLookedAt) {
  constexpr std::int64_t kSize = 20;
  Inputs inputs({.name = "mask", .queries = kSize, .keys = kSize, .head_dim = 4, .causal = true});
  std::vector<double> values(kSize * kSize, 0.0);
  values[5 * kSize + 6] = kNan;  // above the diagonal
  const Tensor above(DType::kF32, {1, 1, kSize, kSize}, values);
  EXPECT_FALSE(device_fault(inputs, above.view()).found());
  values[7 * kSize + 7] = kNan;
  const Tensor on(DType::kF32, {1, 1, kSize, kSize}, values);
  EXPECT_EQ(device_fault(inputs, on.view()).place(), 7 * kSize + 7);
  inputs.q().set(7 * 4, kNan);  // a query that is skipped looks at no key
  EXPECT_FALSE(device_fault(inputs, on.view()).found());
}

}  // namespace
}  // namespace ag::test
