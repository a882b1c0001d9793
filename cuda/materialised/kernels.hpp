// SPDX-License-Identifier: Apache-2.0
// The kernels of the materialised pipeline and of the filter of ready matrices: what each is given, and its launcher.
// Launchers queue on the stream, wait for nothing but where they say so, and return what the launch returned.
//
// Both pipelines mark the pairs they want as bits and compact the bits afterwards: bit c % 32 of word
// row * words + c / 32 stands for column c of a row. The counts of a row's bits, scanned, are the places of its pairs.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../common/work.hpp"

namespace ag::cuda {

// Words of a row of `columns` bits: whole groups of 128 columns, which is what a warp reads at once.
constexpr std::int64_t bit_words(std::int64_t columns) { return (columns + 127) / 128 * 4; }

// Raw products q . k of a batch's rows and the keys [key_begin, key_begin + width).
struct ScoreMatrix {
  const float* data = nullptr;  // [rows][pitch] device, 16-byte aligned
  std::int64_t pitch = 0;       // floats; a multiple of 4, at least width
  std::int64_t key_begin = 0;
  std::int64_t width = 0;  // columns written; what is beyond is not read
};

// Bits of pairs, and how many a row has.
struct PairBits {
  std::uint32_t* bits = nullptr;   // [rows][words]
  std::int64_t words = 0;          // a multiple of 4
  std::int64_t* counts = nullptr;  // [rows]
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
  bool general = false;  // there may be a softcap, a mask tensor or bad keys
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

// Rows of a ready matrix on the device. Rows are numbered r = g * queries + (i - query_begin), as in a Chunk.
struct MatrixChunk {
  std::int64_t heads = 0;
  std::int64_t query_begin = 0;  // global index of the first query
  std::int64_t queries = 0;      // of each head
  std::int64_t keys = 0;         // Nk
  std::int64_t rows() const { return heads * queries; }

  const std::int64_t* head_ids = nullptr;  // [heads] device: global index of head g, for the mask tensor
  // f64, f32, f16 or bf16: element (g, i, j) at g * stride_head + (i - query_begin) * stride_row + j * stride_column,
  // so that a chunk that was uploaded on its own starts at its first row.
  AnyTensor weights;
  MaskView mask;         // a finite bias of its tensor means nothing here; key_count <= keys
  double threshold = 0;  // 0: every allowed pair
  bool entropy = false;
};

// What was found that is not finite among the allowed entries.
struct MatrixFinding {
  unsigned long long count = 0;
  unsigned long long first = ~0ull;  // r * keys + j of the first one
};

// One read of the matrix: row statistics as docs/numerics.md defines them for stored weights, bits and counts of the
// pairs that are edges, entries that are not finite (they take part in nothing).
struct MatrixRows {
  MatrixChunk chunk;
  RowResults results;  // logsumexp, maximum, kept_mass, max_key, entropy where it is asked for; not offsets
  PairBits edges;      // columns are keys
  MatrixFinding* finding = nullptr;  // device; {0, ~0} before
};
cudaError_t launch_matrix_rows(const MatrixRows& work, cudaStream_t stream);

// Edges in order, from the bits: row r's at offsets[r].
struct CompactMatrix {
  MatrixChunk chunk;
  PairBits edges;
  const std::int64_t* offsets = nullptr;  // [rows + 1]
  std::int32_t* keys = nullptr;
  float* weights_f32 = nullptr;  // one of the two: f64 for a matrix of f64
  double* weights_f64 = nullptr;
};
cudaError_t launch_compact_matrix(const CompactMatrix& work, cudaStream_t stream);

// Sums over a chunk's rows, added to what is there, in the order of the rows: the result does not depend on the launch.
struct MatrixSums {
  MatrixChunk chunk;
  double* received = nullptr;   // [heads][keys] device, or null
  double* distances = nullptr;  // [heads][distance_count] device, or null: mass at distance distance_begin + d
  std::int64_t distance_begin = 0;
  std::int64_t distance_count = 0;
};
cudaError_t launch_matrix_sums(const MatrixSums& work, cudaStream_t stream);

}  // namespace ag::cuda
