// SPDX-License-Identifier: Apache-2.0
// How a tensor core adds, as measured on an H100 (docs/gpu.md): products are exact; a step aligns them and the
// accumulator to the largest exponent among them, keeps two bits below that one's last place in float, cuts off
// towards zero, and cuts off the sum once more.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace ag::emu {

// Adds kTerms exact products to each of kLanes accumulators: c[j] plus the sum of products[k][j].
template <std::size_t kTerms, std::size_t kLanes>
inline void tensor_core_add(float (&c)[kLanes], const float (&products)[kTerms][kLanes]) {
  static_assert(kTerms <= 30, "the sum of the aligned terms must fit 31 bits");
  std::uint32_t largest[kLanes];
  for (std::size_t j = 0; j < kLanes; ++j) largest[j] = std::bit_cast<std::uint32_t>(c[j]) & 0x7f800000u;
  for (std::size_t k = 0; k < kTerms; ++k) {
    for (std::size_t j = 0; j < kLanes; ++j) {
      const std::uint32_t exponent = std::bit_cast<std::uint32_t>(products[k][j]) & 0x7f800000u;
      largest[j] = exponent > largest[j] ? exponent : largest[j];
    }
  }
  // Exponents at which a power of two that is needed below is no normal float: infinities, NaN, and next to nothing.
  bool plain = false;
  for (std::size_t j = 0; j < kLanes; ++j) plain |= largest[j] < (32u << 23) || largest[j] > (250u << 23);
  if (plain) {
    for (std::size_t k = 0; k < kTerms; ++k) {
      for (std::size_t j = 0; j < kLanes; ++j) c[j] += products[k][j];
    }
    return;
  }
  float to_integer[kLanes], from_integer[kLanes];
  std::int32_t sum[kLanes];
  for (std::size_t j = 0; j < kLanes; ++j) {
    from_integer[j] = std::bit_cast<float>(largest[j] - (25u << 23));
    to_integer[j] = std::bit_cast<float>((254u << 23) - (largest[j] - (25u << 23)));
    sum[j] = static_cast<std::int32_t>(c[j] * to_integer[j]);
  }
  for (std::size_t k = 0; k < kTerms; ++k) {
    for (std::size_t j = 0; j < kLanes; ++j) sum[j] += static_cast<std::int32_t>(products[k][j] * to_integer[j]);
  }
  for (std::size_t j = 0; j < kLanes; ++j) {
    const double exact = static_cast<double>(sum[j]);
    float cut = static_cast<float>(exact);
    if (std::fabs(static_cast<double>(cut)) > std::fabs(exact))
      cut = std::bit_cast<float>(std::bit_cast<std::uint32_t>(cut) - 1);
    c[j] = cut * from_integer[j];
  }
}

// One accumulator and n <= 16 pairs of values whose products are exact in float.
inline float tensor_core_dot(float c, const float* a, const float* b, int n) {
  float products[16][1] = {};
  for (int k = 0; k < n; ++k) products[k][0] = a[k] * b[k];
  float sum[1] = {c};
  tensor_core_add<16, 1>(sum, products);
  return sum[0];
}

// ex2.approx.ftz: between -2.42 and 2.45 u of the exact value, on average 0.84 u too small below -1, where softmax
// works; exact at whole numbers. u = 2^-24; the error of one argument is always the same.
inline float approximate_exp2(float x) {
  const float exact = std::exp2(x);
  if (!std::isfinite(exact) || x == std::floor(x)) return exact;
  const std::uint32_t mixed = (std::bit_cast<std::uint32_t>(x) * 0x9E3779B1u) >> 8;
  const double noise = 1.1 * (static_cast<double>(mixed) * 0x1p-24 - 0.5);
  const double bias = x < -1.0f ? -0.84 : 0.0;
  return static_cast<float>(std::exp2(static_cast<double>(x)) * (1 + 0x1p-24 * (bias + noise)));
}

}  // namespace ag::emu
