// SPDX-License-Identifier: Apache-2.0
// What the stages of an extraction hand to each other on the device: plain structs of numbers and device pointers,
// passed to kernels by value. README.md in this folder's parent draws the stages.
//
// A chunk is some query heads that read the same key head, and a range of their queries. Its rows are numbered
// r = first_row + g * queries + (i - query_begin): head after head, queries in order, so that finished rows are in the
// order of the answer. A batch is a table of chunks whose rows follow each other: each kernel is launched once for all
// of them. All arrays named [rows] are indexed by r and hold the rows of the whole batch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../../src/core/score.hpp"
#include "band.hpp"

namespace ag::cuda {

// Element types as in ag::DType, for kernels that read any of them.
struct AnyTensor {
  const void* data = nullptr;                                       // device; null: there is no tensor
  std::int32_t dtype = 0;                                           // ag::DType
  std::int64_t stride_head = 0, stride_row = 0, stride_column = 0;  // elements; may be 0 or negative
};

// Which keys the queries of a chunk may see, as in ag::MaskRules::range: keys [begin, end) of query i, then what the
// tensor and bad_keys leave of them; and what tensor and slopes add to their scores.
struct MaskView {
  std::int32_t causal = 0;
  std::int64_t query_offset = 0;
  std::int64_t window = 0;                 // 0: none
  std::int64_t key_count = 0;              // keys at and after it do not exist
  AnyTensor tensor;                        // bool or additive, natural-log units; rows are queries i, columns keys j
  const std::uint8_t* bad_keys = nullptr;  // [keys], 1: holds NaN or infinity and is masked; null: none
  const double* slopes = nullptr;          // device, of distances (ALiBi), indexed as the tensor's heads; null: none
};

// From a product of operands, which is q . k * 2^(q_exponent + k_exponent), to a score. Sign and a scale of 0 are put
// into the query's bits, (bits & query_and) ^ query_xor, so that a larger product is always a larger score.
struct ScoreUnits {
  std::int32_t q_exponent = 0, k_exponent = 0;  // of split f32
  std::uint32_t query_and = 0xFFFFFFFFu, query_xor = 0;
  float unit = 1;           // base-2 score of a product of 1, positive; with a softcap, score / softcap
  double natural_unit = 1;  // nats of a product of 1, positive
};

struct Chunk {
  std::int64_t heads = 0;        // G: query heads
  std::int64_t query_begin = 0;  // index of the first query
  std::int64_t queries = 0;      // of each head
  std::int64_t keys = 0;         // Nk
  std::int64_t head_dim = 0;     // D
  __host__ __device__ std::int64_t rows() const { return heads * queries; }
  std::int64_t first_row = 0;    // of its rows, in arrays [rows]
  std::int64_t first_head = 0;   // of its heads among those of the batch
  std::int64_t all_queries = 0;  // Nq, of each head: the range is a part of them

  const std::int64_t* head_ids = nullptr;  // [heads] device: index of head g, for tensors with a head dimension
  AnyTensor q;  // as given: row i of head g at data + (head_ids[g] * stride_head + i * stride_row) elements
  AnyTensor k;  // as given, of the one key head: stride_head is 0
  MaskView mask;

  double scale = 1;
  double softcap = 0;                 // 0: none
  double log_threshold = 0;           // ln of the smallest weight of interest; -inf: every allowed pair
  double threshold = 0;               // of the edge rule; 0: none
  const double* sink = nullptr;       // [heads] device, natural-log units; null: none
  double* given_logsumexp = nullptr;  // [its rows] device, natural; infinite: no keys; null: none
  AnyTensor logsumexp;                // where read_logsumexp has it from: row i of head g, as of q; no columns

  // Lengths of rows, which inspect_rows writes; NaN: the row holds NaN or infinity.
  double* q_norms = nullptr;  // [heads][all_queries]
  double* k_norms = nullptr;  // [key_count]

  __host__ __device__ ScoreRule score_rule() const { return {scale, softcap}; }

  // The row's length, by its number in the chunk.
  __host__ __device__ double norm_of(std::int64_t row) const {
    const std::int64_t g = row / queries;
    return q_norms[g * all_queries + query_begin + (row - g * queries)];
  }
};

// What is decided of a chunk on the device, from the lengths of its rows (judge_chunks).
struct ChunkFacts {
  double query_norm = 0, key_norm = 0;  // the largest finite ones, of all queries and keys
  std::int64_t bad_queries = 0;         // of the range: they hold NaN or infinity
  std::int64_t bad_keys = 0;
  std::int64_t first_bad_query = -1;  // g * all_queries + i, of the range
  std::int64_t first_bad_key = -1;
  BandModel band, band_f64;  // of single precision, and of rows_f64
  // Single precision cannot hold the band, and rows_f64 takes the chunk: as its lengths say, or as a score pass has
  // found of its biases.
  std::int32_t judged_double = 0, found_double = 0;
  ScoreUnits units;

  __host__ __device__ bool in_double() const { return judged_double != 0 || found_double != 0; }
  __host__ __device__ const BandModel& model() const { return in_double() ? band_f64 : band; }
};

// A table of chunks, and its sums. By value to every kernel; blocks find their chunk by chunk_of().
struct Batch {
  Chunk* chunks = nullptr;      // [count] device. judge_chunks clears mask.bad_keys where no key is bad
  ChunkFacts* facts = nullptr;  // [count] device
  std::int32_t count = 0;
  std::int64_t rows = 0;                                         // of all chunks
  std::int64_t heads = 0;                                        // of all chunks
  std::int64_t most_rows = 0, most_heads = 0, most_queries = 0;  // of one chunk
  std::int64_t most_all_rows = 0;                                // of one chunk, heads * all_queries
  std::int64_t most_keys = 0;                                    // that exist, of one chunk
  // The same in all chunks:
  std::int64_t keys = 0, head_dim = 0;
  std::int32_t dtype = 0;  // ag::DType of q and k
};

// Q and K as the score pass takes them: contiguous, 16-byte aligned, rows of `pitch` elements of which those after D
// are zero. f16, bf16 and f32 that is not split are the values themselves. Split f32, which ScorePass::splits_f32()
// asks for: a row is `pitch` f16 of high parts, then `pitch` of low parts, and value = (high + low) * 2^-exponent with
// high + low below 2^10. Keys at and after key_count are zeros.
struct Operands {
  std::int32_t dtype = 0;  // ag::DType of the problem: f32, f16 or bf16
  bool split = false;      // f32 only
  bool packed = false;     // rows of a chunk query by query, the heads side by side; otherwise in the order of [rows]
  std::int64_t pitch = 0;  // elements; a multiple of 16, at least D
  void* q = nullptr;       // [rows][pitch], split: [rows][2][pitch]; a chunk's at first_row
  void* k = nullptr;       // [chunks][keys][pitch], split: [chunks][keys][2][pitch]
  __host__ __device__ std::int64_t row_bytes() const {
    return pitch * (dtype == static_cast<std::int32_t>(DType::kF32) ? 4 : 2);
  }
};

// State of rows after a score pass, by splits of the keys: element [s * rows + r], natural-log units. logsumexp of
// split s is reference + ln(sum). Split 0 is what later stages read: passes leave the merged states there, and
// finish_rows the reference, max_key (-1 for every row without edges) and, as sum, logsumexp - reference.
struct RowStates {
  std::int32_t splits = 1;
  double* reference = nullptr;  // [splits][rows] near the maximum; the sum is relative to exp(reference)
  double* sum = nullptr;        // [splits][rows] 0 when no key is allowed
  std::int32_t* max_key =
      nullptr;                 // [rows] of a largest computed score, the smallest among equals; no meaning without keys
  double* weighted = nullptr;  // [splits][rows] sum of exp(s - reference) (s - reference), for the entropy; or null
};

// Keys that may be edges, row by row, in any order: those of row r start at place(r) and are count[r] many.
// finish_rows decides each in double: it replaces scores by weights and the keys of pairs that are no edges by ~key,
// which is negative.
struct Candidates {
  std::int32_t* keys = nullptr;           // null: candidates are counted only
  float* scores = nullptr;                // base 2 (s log2 e), as computed: only to rule pairs out
  std::int32_t* count = nullptr;          // [rows]
  const std::int64_t* offsets = nullptr;  // [rows + 1] places of rows whose candidates have been counted, or null:
  std::int64_t capacity = 0;              // place(r) = r * capacity, which no row can exceed
  bool scored = true;                     // false: scores are not written, and rule nothing out
};

// How a pass that packs its candidates finds their places; both give the same answer.
enum class Compaction {
  kDefault,  // what the environment's ATTNGRAPH_CUDA_COMPACTION says, "ballot" or "thrust"; otherwise kBallot
  kBallot,   // a kernel of our own: population counts and a scan over each row
  kThrust,   // thrust::copy_if; waits for the device once more
};

// What the plan decided for a batch, as far as a score pass needs it.
struct PassOptions {
  bool entropy = false;     // RowStates::weighted is wanted
  std::int64_t top_k = 0;   // candidates that are certainly below a row's top_k-th best score may be left out; 0: none
  std::int32_t splits = 1;  // of the keys; 1 where a pass cannot split
  Compaction compaction = Compaction::kDefault;
};

// Where a pass that has all scores writes their softmax weights: row r at data + r * keys, exp(s - logsumexp) with
// sinks in the sum, 0 for masked pairs.
struct DenseWeights {
  float* data = nullptr;  // device; null: not wanted
};

// Finished rows: what the host sends on. Edges of row r stand at offsets[r] .. offsets[r + 1], keys ascending.
struct RowResults {
  double* logsumexp = nullptr;      // [rows] natural, sinks included
  double* maximum = nullptr;        // [rows] natural
  double* kept_mass = nullptr;      // [rows]
  double* entropy = nullptr;        // [rows] or null
  std::int32_t* max_key = nullptr;  // [rows]
  std::int64_t* offsets = nullptr;  // [rows + 1]
  float* eps = nullptr;             // [rows] the row's part of the report's, rounded up; of a matrix: not written
};

}  // namespace ag::cuda
