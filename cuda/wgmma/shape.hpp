// SPDX-License-Identifier: Apache-2.0
// Sizes of an instance of the sm_90a kernels: a block is four warpgroups of 64 rows that multiply and one that loads.
#pragma once

#include <cstdint>

#include "../../src/core/dtype.hpp"
#include "../../src/plan/cuda_rooms.hpp"

namespace ag::cuda {

// A panel is 64 columns, 128 bytes, of an operand. One or two of them: f16 and bf16 up to D = 64 or 128, and f32 up to
// D = 64, whose panels are the high and the low parts.
template <DType kType, int kPanelsOf>
struct WgmmaShape {
  static constexpr DType kDtype = kType;
  static constexpr bool kSplit = kType == DType::kF32;
  static constexpr bool kBf16 = kType == DType::kBF16;
  static constexpr int kPanels = kPanelsOf;
  static_assert(kPanels == 2 || (kPanels == 1 && !kSplit));
  static constexpr int kPanelColumns = 64;

  static constexpr int kKeys = 128;  // of a tile
  static constexpr int kGroups = 4;
  static constexpr int kGroupRows = 64;
  static constexpr int kRows = kGroups * kGroupRows;
  static_assert(kRows == kWgmmaRows);  // which the plan counts by
  static constexpr int kThreads = 128 * (kGroups + 1);
  // Launched with 96 registers a thread. 120 for those who multiply would be more than the block has.
  static constexpr int kConsumerRegisters = 112, kProducerRegisters = 24;

  static constexpr int kPanelProducts = kPanelColumns / 16;
  static constexpr int kProducts = (kSplit ? 3 : kPanels) * kPanelProducts;  // of a tile

  static constexpr int kQueryPanelBytes = kGroupRows * 128;
  static constexpr int kGroupQueryBytes = kPanels * kQueryPanelBytes;
  static constexpr int kQueryBytes = kGroups * kGroupQueryBytes;
  static constexpr int kKeyPanelBytes = kKeys * 128;
  static constexpr int kKeyBytes = kPanels * kKeyPanelBytes;
  static constexpr int kQueryStages = 2;
  static constexpr int kKeyStages = kPanels == 1 ? 6 : 3;

  // Shared memory from the first multiple of 1,024 on: queries, keys, mbarriers, and the items of the query stages.
  static constexpr int kKeysAt = kQueryStages * kQueryBytes;
  static constexpr int kBarriersAt = kKeysAt + kKeyStages * kKeyBytes;
  static constexpr int kItemsAt = kBarriersAt + 16 * (kQueryStages + kKeyStages);
  static constexpr int kSharedBytes = 1024 + kItemsAt + 4 * kQueryStages;
  static_assert(kSharedBytes <= 227 * 1024);
};

}  // namespace ag::cuda
