// SPDX-License-Identifier: Apache-2.0
// The products of a warpgroup's 64 rows and a tile of keys.
#pragma once

#include "../device/ptx_sm90.cuh"
#include "items.cuh"

namespace ag::cuda {

// Descriptors in units of 16 bytes: a step of 16 columns is 2, panels lie whole after each other.
template <class S, int kProduct>
struct ProductPlace {
  static constexpr int kStep = kProduct % S::kPanelProducts * 2, kPair = kProduct / S::kPanelProducts;
  // Split: low q high k, high q low k, high q high k: the small ones first. Otherwise panel by panel.
  static constexpr int kQueryPanel = S::kSplit ? (kPair == 0 ? 1 : 0) : kPair;
  static constexpr int kKeyPanel = S::kSplit ? (kPair == 1 ? 1 : 0) : kPair;
  static constexpr std::uint32_t kQuery = kQueryPanel * S::kQueryPanelBytes / 16 + kStep;
  static constexpr std::uint32_t kKey = kKeyPanel * S::kKeyPanelBytes / 16 + kStep;
};

template <class S, int kProduct = 0>
__device__ __forceinline__ void issue_from(float (&scores)[64], std::uint32_t query, std::uint32_t keys) {
  using Place = ProductPlace<S, kProduct>;
  wgmma<S::kBf16, (kProduct > 0)>(scores, operand(query + Place::kQuery), operand(keys + Place::kKey));
  if constexpr (kProduct + 1 < S::kProducts) issue_from<S, kProduct + 1>(scores, query, keys);
}

// `query` and `keys` are low words of descriptors (operand_low).
template <class S>
__device__ __forceinline__ void multiply_tile(float (&scores)[64], std::uint32_t query, std::uint32_t keys) {
  // In a uniform register the descriptors of a tile cost 24 instructions, otherwise 70.
  keys = static_cast<std::uint32_t>(uniform(static_cast<int>(keys)));
  pin(scores);
  wgmma_fence();
  issue_from<S>(scores, query, keys);
  wgmma_commit();
  pin(scores);
  wgmma_wait<0>();
  pin(scores);
}

}  // namespace ag::cuda
