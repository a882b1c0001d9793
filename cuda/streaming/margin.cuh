// SPDX-License-Identifier: Apache-2.0
// How far below logsumexp + ln t a score in float may be and still be a candidate.
#pragma once

#include "../../src/core/score.hpp"
#include "../device/macros.cuh"

namespace ag::cuda {

// On top of the row's band: roundings of the cut itself, of sums and logarithms in float, below 2^-20 each.
inline constexpr double kCutSlack = 0x1p-13;  // nats

}  // namespace ag::cuda
