// SPDX-License-Identifier: Apache-2.0
// What the fused kernels are told.
//
// Scores are compared as the kernels have them: as products of operands (lean), or as base-2 scores (general). Both
// passes compute the same bits.
#pragma once

#include <cstdint>

#include "../stages/work.hpp"

namespace ag::cuda {

// What the second pass looks for in a row, in the units of its comparisons. Rows without anything to find have
// kHighestFloat twice.
struct RowCut {
  float cut = 0;  // scores from here on are candidates
  float top = 0;  // the row's largest score: its smallest key is wanted
};

// Bounds for top-k: the largest scores of groups of a row's keys, kGroupsOfTile groups for every `tiles` tiles.
struct GroupTops {
  float* top = nullptr;    // [rows][count]; null: not wanted. General variant only
  std::int64_t count = 0;  // of a row
  std::int32_t tiles = 1;
};
inline constexpr int kGroupsOfTile = 4;  // each lane of a quad its own keys

struct StreamingArguments {
  Batch batch;
  Operands operands;
  std::int32_t splits = 1;
  // Blocks visit the chunks in groups of so many, last rows of all of them first: their keys stay in L2 together.
  std::int32_t chunk_group = 1;
  float softcap = 0;  // nats; 0: none. General variant only

  // The first pass writes
  RowStates states;
  float* top = nullptr;  // [splits][rows] the largest score; kLowestFloat when no key is allowed
  bool entropy = false;  // RowStates::weighted is wanted. Not of the lean variant
  GroupTops groups;

  // the second reads and writes
  const RowCut* cuts = nullptr;  // [rows]
  Candidates candidates;
};

}  // namespace ag::cuda
