// SPDX-License-Identifier: Apache-2.0
// How far a backend's weights can be from the exact ones.
#pragma once

namespace ag::exact {

// No backend answers from single precision with a wider band; a row whose band is wider is decided key by key.
inline constexpr double kWidestBand = 1.0 / 64;
// How much lower than the threshold the backend's is, in nats: the widest band, and room for weights in float.
inline constexpr double kRelaxed = kWidestBand + 1e-4;
// What a weight in float may be off by beside the band, relative.
inline constexpr double kFloatRounding = 0x1p-20;
// Below it a float is subnormal, or soon.
inline constexpr double kTinyWeight = 1e-35;

}  // namespace ag::exact
