// SPDX-License-Identifier: Apache-2.0
// Products of pairs of bf16 values, summed in float: AVX512_BF16 (vdpbf16ps) and AMX tiles. A packed value stands for
// two neighbouring dimensions of one part of a row. bf16 rows are one part; f16 rows are two and f32 rows three,
// exactly: x = high + middle + low, each the bf16 nearest to what is left. Products of parts a, b with a + b <= 2 are
// summed, the small ones first; what is left out is below 2^-24 of |q| |k|. So a score is as good as a chain in float,
// and nothing has to be decided again (docs/numerics.md).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "../plan/plan.hpp"
#include "kernels.hpp"

namespace ag::cpu {

inline constexpr int parts_of(DType dtype) { return dtype == DType::kF32 ? 3 : dtype == DType::kF16 ? 2 : 1; }

// The bits of the bf16 nearest to x, ties to even; x is finite and far from overflow.
inline std::uint32_t bf16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
}

// Part `part` of a and of b as one packed value, a in the low half.
inline float packed_pair(float a, float b, int part) {
  std::uint32_t low = 0, high = 0;
  for (int p = 0; p <= part; ++p) {
    low = bf16_bits(a);
    high = bf16_bits(b);
    a -= std::bit_cast<float>(low << 16);
    b -= std::bit_cast<float>(high << 16);
  }
  return std::bit_cast<float>(low | high << 16);
}

// The most that works here: what the processor and the system offer, less what ATTNGRAPH_PAIR_PRODUCTS forbids ("off";
// "avx512_bf16": no tiles), or what a test forces. Only beside the instruction set AVX512.
Product usable_product();
// Whether usable_product() is to be used wherever it serves: a test says so, or the variable's word is "amx".
bool product_is_forced();
// Whether figures may be measured to choose by: the variable's word is not "table".
bool may_measure();
// A sentence when the variable says what nobody knows; else "".
std::string environment_trouble();
// Everything that this machine can do, whatever is forced: kFloat, kAvx512Bf16, kAmx.
bool can(Product product);
void force_product(std::optional<Product> product);
// Tests put a model of the tile instructions in the place of the processor's; nullptr: the processor's.
void replace_tiles(void (*use)(Kernels<float>& table, DType dtype));
// Why there are no tiles, for people; "" when there are.
const char* why_no_tiles();

// The table of the instruction set in use, its product replaced. Kept keys are read by few rows at a time, for which
// their bytes count; the scores are the same.
template <class T>
Kernels<T> product_kernels(Product product, DType dtype, bool kept = false);
template <>
Kernels<float> product_kernels<float>(Product product, DType dtype, bool kept);
template <>
Kernels<double> product_kernels<double>(Product product, DType dtype, bool kept);

// What values and products below 2^-126, which pair products take for 0, may add up to in a score, in nats.
template <class T>
double flush_bound(const Kernels<T>& kernel, std::int64_t d, double scale, double factor, double query_norm,
                   double key_norm) {
  if (kernel.products_per_value == 0) return 0;
  const double count = kernel.products_per_value * static_cast<double>(d);
  const double query = kernel.scales_scores ? query_norm : std::abs(factor) * query_norm;
  return std::ldexp(count * (1 + query + key_norm) * std::max(1.0, std::abs(scale)), -126);
}

}  // namespace ag::cpu
