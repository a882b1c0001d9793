// SPDX-License-Identifier: Apache-2.0
// The kernels of the filter of ready matrices: what each is given, and its launcher. Launchers queue on the stream,
// wait for nothing, and return what the launch returned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../stages/pair_bits.hpp"
#include "../stages/work.hpp"

namespace ag::cuda {

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
