// SPDX-License-Identifier: Apache-2.0
// Where the candidates of a row stand.
#pragma once

#include "../device/macros.cuh"
#include "work.hpp"

namespace ag::cuda {

struct CandidateRow {
  std::int64_t begin = 0;
  std::int64_t capacity = 0;
};

// Of row `row` of a batch.
__device__ __forceinline__ CandidateRow candidate_row(const Candidates& candidates, std::int64_t row) {
  if (candidates.keys == nullptr) return {};
  if (candidates.offsets == nullptr) return {row * candidates.capacity, candidates.capacity};
  return {candidates.offsets[row], candidates.offsets[row + 1] - candidates.offsets[row]};
}

}  // namespace ag::cuda
