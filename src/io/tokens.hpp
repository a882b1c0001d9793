// SPDX-License-Identifier: Apache-2.0
// Limits on token texts, which come from files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ag {

inline constexpr std::size_t kMaxTokenBytes = std::size_t{64} << 10;
inline constexpr std::size_t kMaxTokens = std::size_t{1} << 24;
inline constexpr std::uint64_t kMaxTokenFile = std::uint64_t{256} << 20;

}  // namespace ag
