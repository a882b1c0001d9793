// SPDX-License-Identifier: Apache-2.0
#include "core/dtype.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "support/rounding.hpp"

namespace ag::test {
namespace {

// IEEE 754 binary16, from its definition.
double value_of_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

bool same_number(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

TEST(DTypes, EveryHalfIsPromotedExactly) {
  for (std::uint32_t n = 0; n < 65'536; ++n) {
    const auto bits = static_cast<std::uint16_t>(n);
    ASSERT_TRUE(same_number(promote(F16{bits}), value_of_half(bits))) << fmt::format("{:#06x}", n);
    ASSERT_TRUE(same_number(load_double(DType::kF16, &bits), value_of_half(bits)));
  }
}

TEST(DTypes, EveryBfloatIsPromotedExactly) {
  for (std::uint32_t n = 0; n < 65'536; ++n) {
    const auto bits = static_cast<std::uint16_t>(n);
    const int exponent = static_cast<int>(n >> 7 & 255), mantissa = static_cast<int>(n & 127);
    const double sign = n >= 0x8000 ? -1.0 : 1.0;
    double expected = sign * std::ldexp(128 + mantissa, exponent - 134);
    if (exponent == 0) expected = sign * std::ldexp(mantissa, -133);
    if (exponent == 255) {
      expected = mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
    }
    ASSERT_TRUE(same_number(promote(BF16{bits}), expected)) << fmt::format("{:#06x}", n);
    ASSERT_TRUE(same_number(load_double(DType::kBF16, &bits), expected));
  }
}

TEST(DTypes, LoadsAtAnyAddress) {
  unsigned char bytes[16] = {};
  for (std::size_t shift = 0; shift < 8; ++shift) {
    unsigned char* p = bytes + shift;
    const double f64 = -1.25e-300;
    std::memcpy(p, &f64, 8);
    EXPECT_EQ(load_double(DType::kF64, p), f64);
    const float f32 = 1.1f;
    std::memcpy(p, &f32, 4);
    EXPECT_EQ(load_double(DType::kF32, p), static_cast<double>(f32));
    const std::int32_t i32 = -7;
    std::memcpy(p, &i32, 4);
    EXPECT_EQ(load_double(DType::kI32, p), -7.0);
    const std::int64_t i64 = std::int64_t{1} << 52;
    std::memcpy(p, &i64, 8);
    EXPECT_EQ(load_double(DType::kI64, p), 0x1p52);
  }
}

TEST(DTypes, AnyByteButZeroIsTrue) {
  for (int n = 0; n < 256; ++n) {
    const auto byte = static_cast<unsigned char>(n);
    EXPECT_EQ(load_double(DType::kBool, &byte), n == 0 ? 0.0 : 1.0);
  }
}

TEST(DTypes, KnowTheirSizeNameAndLowestValue) {
  struct Facts {
    DType dtype;
    std::size_t size;
    const char* name;
    bool is_float;
  };
  const Facts all[] = {{DType::kF64, 8, "f64", true},    {DType::kF32, 4, "f32", true},
                       {DType::kF16, 2, "f16", true},    {DType::kBF16, 2, "bf16", true},
                       {DType::kBool, 1, "bool", false}, {DType::kI32, 4, "i32", false},
                       {DType::kI64, 8, "i64", false}};
  for (const Facts& facts : all) {
    EXPECT_EQ(size_of(facts.dtype), facts.size);
    EXPECT_STREQ(name_of(facts.dtype), facts.name);
    EXPECT_EQ(is_float(facts.dtype), facts.is_float);
    EXPECT_TRUE(is_dtype(static_cast<std::int32_t>(facts.dtype)));
  }
  EXPECT_FALSE(is_dtype(0));
  EXPECT_FALSE(is_dtype(8));
  EXPECT_EQ(lowest_of(DType::kF64), std::numeric_limits<double>::lowest());
  EXPECT_EQ(lowest_of(DType::kF32), static_cast<double>(std::numeric_limits<float>::lowest()));
  EXPECT_EQ(lowest_of(DType::kF16), promote(F16{0xFBFF}));
  EXPECT_EQ(lowest_of(DType::kBF16), promote(BF16{0xFF7F}));
}

TEST(DTypes, DispatchGivesTheStorageType) {
  EXPECT_EQ(with_float_type(DType::kF64, [](auto x) { return std::is_same_v<decltype(x), double>; }), true);
  EXPECT_EQ(with_float_type(DType::kF32, [](auto x) { return std::is_same_v<decltype(x), float>; }), true);
  EXPECT_EQ(with_float_type(DType::kF16, [](auto x) { return std::is_same_v<decltype(x), F16>; }), true);
  EXPECT_EQ(with_float_type(DType::kBF16, [](auto x) { return std::is_same_v<decltype(x), BF16>; }), true);
}

// The tests' own rounding, on which their inputs rest.
TEST(Rounding, GivesBackEveryFiniteHalfAndBfloat) {
  for (std::uint32_t n = 0; n < 65'536; ++n) {
    const auto bits = static_cast<std::uint16_t>(n);
    if (std::isfinite(promote(F16{bits}))) {
      ASSERT_EQ(to_f16(promote(F16{bits})).bits, bits);
    }
    if (std::isfinite(promote(BF16{bits}))) {
      ASSERT_EQ(to_bf16(promote(BF16{bits})).bits, bits);
    }
  }
}

TEST(Rounding, IsToNearestEven) {
  EXPECT_EQ(round_to(DType::kF16, 2049.0), 2048.0);
  EXPECT_EQ(round_to(DType::kF16, 2051.0), 2052.0);
  EXPECT_EQ(round_to(DType::kF16, 65519.0), 65504.0);
  EXPECT_EQ(round_to(DType::kF16, 65520.0), HUGE_VAL);
  EXPECT_EQ(round_to(DType::kF16, 0x1p-25), 0.0);
  EXPECT_EQ(round_to(DType::kF16, 0x1.8p-24), 0x1p-23);
  EXPECT_EQ(round_to(DType::kBF16, 257.0), 256.0);
  EXPECT_EQ(round_to(DType::kBF16, 259.0), 260.0);
  EXPECT_EQ(round_to(DType::kF16, 0.1), 0.0999755859375);
}

}  // namespace
}  // namespace ag::test
