// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ag {

// A 64-bit length, that many bytes of JSON, then the tensors without gaps. Readers and writers keep to the same limit.
inline constexpr std::uint64_t kMaxSafetensorsHeader = std::uint64_t{16} << 20;

}  // namespace ag
