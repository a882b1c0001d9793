// SPDX-License-Identifier: Apache-2.0
// The kernels of the materialised pipeline: what each is given, and its launcher. Launchers queue on the stream, wait
// for nothing but where they say so, and return what the launch returned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../stages/pair_bits.hpp"
#include "../stages/work.hpp"

namespace ag::cuda {

// Raw products q . k of a batch's rows and the keys [key_begin, key_begin + width).
struct ScoreMatrix {
  const float* data = nullptr;  // [rows][pitch] device, 16-byte aligned
  std::int64_t pitch = 0;       // floats; a multiple of 4, at least width
  std::int64_t key_begin = 0;
  std::int64_t width = 0;  // columns written; what is beyond is not read
};

// One read of the scores (a second for what does not fit registers): scale, softcap, mask, maximum, sum and entropy in
// RowStates, the row's cut with room for its band on both sides, bits and counts of the candidates, and, when wanted,
// the dense weights. The first key that may have the largest score is among the candidates: columns of equal keys need
// not get equal products from cuBLAS. Chunks that are done in double are left alone; those whose biases turn out to
// need it are flagged.
struct SoftmaxRows {
  ScoreMatrix scores;
  Batch batch;
  RowStates states;
  PairBits candidates;            // counts: not used
  std::int32_t* count = nullptr;  // [rows] of candidates
  DenseWeights dense;             // data null: not wanted
  std::int64_t top_k = 0;         // above 0: candidates that are certainly below the top_k-th are left out
  double scale = 1, softcap = 0;
  bool general = false;  // there may be a softcap, a mask tensor, slopes or bad keys
};
cudaError_t launch_softmax_rows(const SoftmaxRows& work, cudaStream_t stream);

// Candidates in order, from the bits: keys and base-2 scores of every row to its place in `out`.
struct CompactScores {
  ScoreMatrix scores;
  Batch batch;
  PairBits candidates;
  Candidates out;
  double scale = 1, softcap = 0;
};
cudaError_t launch_compact_ballot(const CompactScores& work, cudaStream_t stream);
// The same by thrust::copy_if, which waits for the stream, has scratch of its own, and packs rows: out.offsets is set.
cudaError_t compact_thrust(const CompactScores& work, cudaStream_t stream);

}  // namespace ag::cuda
