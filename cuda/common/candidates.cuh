// SPDX-License-Identifier: Apache-2.0
// Where the candidates of a row stand.
#pragma once

#include "macros.cuh"
#include "work.hpp"

namespace ag::cuda {

struct CandidateRow {
  std::int64_t begin = 0;
  std::int64_t capacity = 0;
};

// Of row `row` and split `split` of a chunk of `rows`.
__device__ __forceinline__ CandidateRow candidate_row(const Candidates& candidates, std::int64_t rows,
                                                      std::int64_t split, std::int64_t row) {
  const std::int64_t n = split * rows + row;
  if (candidates.offsets == nullptr) return {n * candidates.capacity, candidates.capacity};
  return {candidates.offsets[n], candidates.offsets[n + 1] - candidates.offsets[n]};
}

}  // namespace ag::cuda
