// SPDX-License-Identifier: Apache-2.0
// What the emulated cuTensorMapEncodeTiled writes into the 128 opaque bytes of a CUtensorMap.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ag::emu {

struct TensorMap {
  static constexpr std::uint32_t kMagic = 0x544d4150;
  std::uint32_t magic = 0;
  std::uint8_t rank = 0;
  std::uint8_t element_bytes = 0;
  std::uint8_t swizzle_128 = 0;  // else none
  std::uint8_t reserved = 0;
  const std::byte* data = nullptr;
  std::uint64_t sizes[5] = {};         // elements
  std::uint64_t stride_bytes[4] = {};  // of dimensions 1 and on
  std::uint16_t box[5] = {};
};
static_assert(sizeof(TensorMap) <= 128);

}  // namespace ag::emu
