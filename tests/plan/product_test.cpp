// SPDX-License-Identifier: Apache-2.0
// Which way of multiplying is taken, from figures alone: no processor is asked.
#include "plan/product.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ag {
namespace {

using ::testing::HasSubstr;

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// A device with tiles, where float and tiles were measured to make so many 10^9 scores a second.
DeviceInfo tiles(int threads, double by_float = 0, double by_tiles = 0) {
  DeviceInfo d;
  d.target = "AVX512";
  d.threads = threads;
  d.vector_registers = 32;
  d.product = Product::kAmx;
  if (by_float > 0) d.product_rates = {1e9 * by_float, 0, 1e9 * by_tiles};
  return d;
}

Product taken(DType dtype, std::int64_t head_dim, const DeviceInfo& device) {
  return choose_product(dtype, head_dim, device).product;
}

TEST(ProductChoice, WithoutAMeasurementTheTableDecides) {
  for (const DType dtype : kTypes) {
    for (const std::int64_t d : {1, 64, 128, 1024}) EXPECT_EQ(taken(dtype, d, tiles(1)), Product::kAmx);
  }
  for (const std::int64_t d : {64, 128}) {
    EXPECT_EQ(taken(DType::kF32, d, tiles(16)), Product::kFloat) << "a third slower by tiles with all threads";
    EXPECT_EQ(taken(DType::kBF16, d, tiles(16)), Product::kAmx);
    EXPECT_EQ(taken(DType::kF64, d, tiles(16)), Product::kFloat);
  }
  EXPECT_THAT(choose_product(DType::kF32, 64, tiles(16)).reason, HasSubstr("table"));
}

TEST(ProductChoice, AMeasurementOverrulesTheTableWhereItIsATenthFaster) {
  EXPECT_EQ(taken(DType::kBF16, 64, tiles(16, 8, 4)), Product::kFloat);
  EXPECT_EQ(taken(DType::kBF16, 64, tiles(16, 8, 7.5)), Product::kAmx) << "too near to tell: the table's word stands";
  EXPECT_EQ(taken(DType::kF32, 64, tiles(16, 8, 8.5)), Product::kFloat) << "likewise";
  EXPECT_EQ(taken(DType::kF32, 64, tiles(16, 8, 9)), Product::kAmx);
  const std::string reason = choose_product(DType::kF32, 64, tiles(16, 8, 9)).reason;
  for (const char* part : {"AMX", "measured with 16 threads", "AVX512 8.00", "AMX 9.00"})
    EXPECT_THAT(reason, HasSubstr(part));
}

TEST(ProductChoice, PairsOfAvx512AreAThirdWay) {
  DeviceInfo device = tiles(16);
  device.product_rates = {8e9, 14e9, 11e9};
  EXPECT_EQ(taken(DType::kBF16, 64, device), Product::kAvx512Bf16);
  device.product_rates = {8e9, 11.5e9, 11e9};
  EXPECT_EQ(taken(DType::kBF16, 64, device), Product::kAmx);
}

TEST(ProductChoice, WhereThereIsNoneNothingIsSaid) {
  DeviceInfo device = tiles(16, 8, 4);
  device.product_is_forced = true;
  for (const DType dtype : kTypes) EXPECT_EQ(taken(dtype, 64, device), Product::kAmx) << "somebody named it";
  EXPECT_EQ(choose_product(DType::kBF16, 64, device).reason, "");
  device = tiles(16);
  device.product = Product::kAvx512Bf16;
  EXPECT_EQ(taken(DType::kBF16, 64, device), Product::kAvx512Bf16);
  EXPECT_EQ(taken(DType::kF16, 64, device), Product::kFloat);
  device.product = Product::kFloat;
  for (const DType dtype : kTypes) EXPECT_EQ(taken(dtype, 64, device), Product::kFloat);
  EXPECT_EQ(choose_product(DType::kBF16, 64, device).reason, "");
}

// A call gives the same bits with any number of threads, and in parts: so the choice may hang on neither.
TEST(ProductChoice, IsTheSameForEveryCallOfAProcess) {
  PlanShape shape;
  shape.head_dim = 64;
  for (const DType dtype : kTypes) {
    shape.dtype = dtype;
    const Product product = choose_product(dtype, 64, tiles(16)).product;
    for (const int threads : {0, 1, 16, 1000}) {
      for (const std::int64_t n : {1, 100, 100000}) {
        shape.queries = shape.keys = n;
        const Plan plan = make_plan(shape, {"cpu", threads}, tiles(16));
        EXPECT_EQ(plan.product, product);
        EXPECT_EQ(plan.product_reason, choose_product(dtype, 64, tiles(16)).reason);
      }
    }
  }
  const Plan plan = make_plan(shape, {"cpu", 1}, tiles(16, 8, 12));
  EXPECT_THAT(describe(plan, shape), HasSubstr("product path        AMX, measured"));
}

}  // namespace
}  // namespace ag
