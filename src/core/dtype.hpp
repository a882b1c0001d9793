// SPDX-License-Identifier: Apache-2.0
// Element types and their exact promotion to double.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ag {

// The same numbers as attngraph_dtype; src/api asserts it.
enum class DType : std::int32_t { kF64 = 1, kF32 = 2, kF16 = 3, kBF16 = 4, kBool = 5, kI32 = 6, kI64 = 7 };

constexpr bool is_dtype(std::int32_t value) { return value >= 1 && value <= 7; }

constexpr bool is_float(DType t) {
  return t == DType::kF64 || t == DType::kF32 || t == DType::kF16 || t == DType::kBF16;
}

constexpr std::size_t size_of(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kBool: return 1;
  }
  return 0;
}

constexpr const char* name_of(DType t) {
  switch (t) {
    case DType::kF64: return "f64";
    case DType::kF32: return "f32";
    case DType::kF16: return "f16";
    case DType::kBF16: return "bf16";
    case DType::kBool: return "bool";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
  }
  return "?";
}

// Storage of the two 16-bit formats; arithmetic happens after promotion.
struct F16 {
  std::uint16_t bits;
};
struct BF16 {
  std::uint16_t bits;
};

constexpr float to_float(BF16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

constexpr float to_float(F16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 0x1Fu;
  const std::uint32_t mantissa = x.bits & 0x3FFu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // zero and subnormals, exact
  return sign ? -magnitude : magnitude;
}

constexpr double promote(double x) { return x; }
constexpr double promote(float x) { return x; }
constexpr double promote(F16 x) { return to_float(x); }
constexpr double promote(BF16 x) { return to_float(x); }

// Calls f with a value-initialised element of the C++ type that stores t. t must be a float type.
template <class F>
decltype(auto) with_float_type(DType t, F&& f) {
  switch (t) {
    case DType::kF64: return f(double{});
    case DType::kF32: return f(float{});
    case DType::kF16: return f(F16{});
    default: return f(BF16{});
  }
}

// An unaligned load: views may point anywhere into a file's bytes.
template <class T>
T load_as(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Exact value of any element. For kBool 0 or 1.
inline double load_double(DType t, const void* p) {
  switch (t) {
    case DType::kF64: return load_as<double>(p);
    case DType::kF32: return load_as<float>(p);
    case DType::kF16: return promote(load_as<F16>(p));
    case DType::kBF16: return promote(load_as<BF16>(p));
    case DType::kBool: return load_as<unsigned char>(p) != 0 ? 1.0 : 0.0;
    case DType::kI32: return load_as<std::int32_t>(p);
    case DType::kI64: return static_cast<double>(load_as<std::int64_t>(p));
  }
  return 0;
}

// Most negative finite value. Frameworks write it into additive masks where they mean -infinity.
constexpr double lowest_of(DType t) {
  switch (t) {
    case DType::kF64: return -1.7976931348623157e308;
    case DType::kF16: return -65504.0;
    case DType::kBF16: return -0x1.FEp127;
    default: return -0x1.FFFFFEp127;
  }
}

}  // namespace ag
