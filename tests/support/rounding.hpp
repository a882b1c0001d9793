// SPDX-License-Identifier: Apache-2.0
// Doubles rounded to an element type and stored, to nearest even. The library only reads the 16-bit types.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/dtype.hpp"

namespace ag::test {

// To a binary format of `precision` significant bits whose smallest normal number is 2^min_exponent.
inline double round_to_format(double x, int precision, int min_exponent, double largest) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), min_exponent);
  const double ulp = std::ldexp(1.0, exponent - precision + 1);
  const double rounded = std::nearbyint(x / ulp) * ulp;
  return std::abs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

inline double round_to(DType dtype, double x) {
  switch (dtype) {
    case DType::kF32: return static_cast<double>(static_cast<float>(x));
    case DType::kF16: return round_to_format(x, 11, -14, 65504.0);
    case DType::kBF16: return round_to_format(x, 8, -126, -lowest_of(DType::kBF16));
    case DType::kBool: return x != 0 ? 1.0 : 0.0;
    default: return x;
  }
}

inline F16 to_f16(double x) {
  const double value = round_to(DType::kF16, x);
  const std::uint32_t sign = std::signbit(value) ? 0x8000u : 0u;
  const double magnitude = std::abs(value);
  std::uint32_t bits = 0;
  if (std::isnan(value)) {
    bits = 0x7E00u;
  } else if (std::isinf(value)) {
    bits = 0x7C00u;
  } else if (magnitude < 0x1p-14) {
    bits = static_cast<std::uint32_t>(magnitude * 0x1p24);
  } else {
    const int exponent = std::ilogb(magnitude);
    const auto mantissa = static_cast<std::uint32_t>((std::ldexp(magnitude, -exponent) - 1.0) * 1024.0);
    bits = (static_cast<std::uint32_t>(exponent + 15) << 10) | mantissa;
  }
  return F16{static_cast<std::uint16_t>(sign | bits)};
}

inline BF16 to_bf16(double x) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(round_to(DType::kBF16, x)));
  return BF16{static_cast<std::uint16_t>(bits >> 16)};
}

// Rounds x to the dtype and writes it at p, which need not be aligned.
inline void store_rounded(DType dtype, double x, void* p) {
  const auto put = [p](const auto& value) { std::memcpy(p, &value, sizeof(value)); };
  switch (dtype) {
    case DType::kF64: return put(x);
    case DType::kF32: return put(static_cast<float>(x));
    case DType::kF16: return put(to_f16(x));
    case DType::kBF16: return put(to_bf16(x));
    case DType::kBool: return put(static_cast<unsigned char>(x != 0 ? 1 : 0));
    case DType::kI32: return put(static_cast<std::int32_t>(x));
    case DType::kI64: return put(static_cast<std::int64_t>(x));
  }
}

}  // namespace ag::test
