// SPDX-License-Identifier: Apache-2.0
// Constants and conversions that every room needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace ag {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Positions and counts are signed everywhere; what containers ask for is not.
constexpr std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

// The next multiple of `step`, for n >= 0 far below the type's limit.
constexpr std::int64_t round_up(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

}  // namespace ag
