// SPDX-License-Identifier: Apache-2.0
// How much room the rows of a CUDA batch take: computed here, for the plan, the passes and their memory alike.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ag {

// Packed rows that a block of the wgmma kernels takes at a time.
inline constexpr std::int64_t kWgmmaRows = 256;

// Candidates that a row can have whose weights sum to at most 1: those of weight t e^-margin or more. A margin is the
// row's band, at most 2/64 nats, and the rounding of the cut, 2^-13 and 2^-21 of its size, which is below 2^17 or float
// could not hold the band: together less than ln 1.08. One more is the first key that may be the largest.
inline std::int64_t candidate_room(double threshold, std::int64_t keys) {
  const double bound = threshold > 0 ? std::floor(1.08 / threshold) + 2 : static_cast<double>(keys);
  return bound < static_cast<double>(keys) ? static_cast<std::int64_t>(bound) : keys;
}

// For top-k without a threshold, cuda_streaming keeps the largest score of groups of a row's keys: four groups for
// every `tiles` tiles of at least 16 keys.
struct KeyGroups {
  std::int32_t tiles = 1;
  std::int64_t count = 0;  // of a row
};

inline KeyGroups key_groups(std::int64_t keys, std::int64_t top_k, int splits) {
  const std::int64_t tiles = (keys + 15) / 16;
  // Four times as many groups as wanted keys, so that most of the best are the best of theirs.
  const std::int64_t wanted = std::max<std::int64_t>(64, std::min(top_k, keys));
  KeyGroups groups;
  // Blocks that share a row's keys would share a group of several tiles. Tiles may be eight times as long.
  if (splits == 1) groups.tiles = static_cast<std::int32_t>(std::max<std::int64_t>(1, tiles / 8 / wanted));
  groups.count = (tiles + groups.tiles - 1) / groups.tiles * 4;
  return groups;
}

}  // namespace ag
