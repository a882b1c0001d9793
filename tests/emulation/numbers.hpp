// SPDX-License-Identifier: Apache-2.0
// Values of f16 and bf16, exactly.
#pragma once

#include <bit>
#include <cstdint>

namespace ag::emu {

inline float from_bf16(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }

inline float from_f16(std::uint32_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t rest = bits & 0x7fffu;
  // The exponent's bias differs by 112: multiplying by 2^112 moves normal numbers and subnormal ones alike, exactly.
  std::uint32_t magnitude = std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest << 13) * 0x1p112f);
  if (rest >= 0x7c00u) magnitude = rest << 13 | 0x7f800000u;
  return std::bit_cast<float>(sign | magnitude);
}

}  // namespace ag::emu
