// SPDX-License-Identifier: Apache-2.0
// What the stages of an extraction hand to each other on the device: plain structs of numbers and device pointers,
// passed to kernels by value. README.md in this folder's parent draws the stages.
//
// A chunk is the unit of work: some query heads that read the same key head, and a range of their queries. Its rows are
// numbered r = g * queries + (i - query_begin): head after head, queries in order, so that finished rows are in the
// order of the answer. All arrays named [rows] are indexed by r.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ag::cuda {

// Element types as in ag::DType, for kernels that read any of them.
struct AnyTensor {
  const void* data = nullptr;                                       // device; null: there is no tensor
  std::int32_t dtype = 0;                                           // ag::DType
  std::int64_t stride_head = 0, stride_row = 0, stride_column = 0;  // elements; may be 0 or negative
};

// Which keys the queries of a chunk may see, as in ag::MaskRules::range: keys [begin, end) of query i, then what the
// tensor and bad_keys leave of them.
struct MaskView {
  std::int32_t causal = 0;
  std::int64_t query_offset = 0;
  std::int64_t window = 0;                 // 0: none
  std::int64_t key_count = 0;              // keys at and after it do not exist
  AnyTensor tensor;                        // bool or additive, natural-log units; rows are queries i, columns keys j
  const std::uint8_t* bad_keys = nullptr;  // [keys], 1: holds NaN or infinity and is masked; null: none
};

struct Chunk {
  std::int64_t heads = 0;        // G: query heads
  std::int64_t query_begin = 0;  // global index of the first query
  std::int64_t queries = 0;      // of each head
  std::int64_t keys = 0;         // Nk
  std::int64_t head_dim = 0;     // D
  __host__ __device__ std::int64_t rows() const { return heads * queries; }

  const std::int64_t* head_ids = nullptr;  // [heads] device: global index of head g, for tensors with a head dimension
  AnyTensor q;  // as given: row i of head g at data + (head_ids[g] * stride_head + i * stride_row) elements
  AnyTensor k;  // as given, of the one key head: stride_head is 0
  MaskView mask;

  double scale = 1;
  double softcap = 0;                       // 0: none
  double log_threshold = 0;                 // ln of the smallest weight of interest; -inf: every allowed pair
  double threshold = 0;                     // of the edge rule; 0: none
  const double* sink = nullptr;             // [heads] device, natural-log units; null: none
  const double* given_logsumexp = nullptr;  // [rows] device, natural; infinite: no keys; null: none
};

// Q and K as the score pass takes them: contiguous, 16-byte aligned, rows of `pitch` elements of which those after D
// are zero. f16, bf16 and f32 that is not split are the values themselves. Split f32, which ScorePass::splits_f32()
// asks for: a row is `pitch` f16 of high parts, then `pitch` of low parts, and value = (high + low) * 2^-exponent with
// high + low below 2^10.
struct Operands {
  std::int32_t dtype = 0;                       // ag::DType of the problem: f32, f16 or bf16
  bool split = false;                           // f32 only
  std::int64_t pitch = 0;                       // elements; a multiple of 16, at least D
  const void* q = nullptr;                      // [heads][queries][pitch], split: [heads][queries][2][pitch]
  const void* k = nullptr;                      // [keys][pitch], split: [keys][2][pitch]
  std::int32_t q_exponent = 0, k_exponent = 0;  // of split rows
};

// What is known of every row before its scores: its limits and its rounding.
struct RowFacts {
  // [rows] nats: a pair whose computed score is below (computed logsumexp + ln t) - band is no edge, whatever rounding
  // did to either (band.hpp). The online cut of a pass may be lower, never higher.
  const float* band = nullptr;
  const std::uint8_t* unusable = nullptr;  // [rows] 1: the query holds NaN or infinity; null: none
};

// State of rows after a score pass, by splits of the keys: element [s * rows + r], natural-log units.
// logsumexp of split s is reference + ln(sum). Arrays of the statistics not asked for are null. finish_rows leaves in
// split 0 what it has merged: reference, max_key (-1 for every row without edges) and, as sum, logsumexp - reference.
struct RowStates {
  std::int32_t splits = 1;
  double* reference = nullptr;      // [splits][rows] near the maximum; the sum is relative to exp(reference)
  double* sum = nullptr;            // [splits][rows] 0 when no key is allowed
  double* maximum = nullptr;        // [splits][rows] -inf when no key is allowed
  std::int32_t* max_key = nullptr;  // [splits][rows] smallest among equals; -1 when no key is allowed
  double* weighted = nullptr;  // [splits][rows] sum of exp(s - reference) (s - reference), for the entropy; or null
};

// Keys that may be edges, row by row: those of row r and split s start at place(s, r) and are count[s * rows + r] many.
// They ascend, except that one run of the row's last tile may come first: two ascending runs at most. Splits ascend.
// finish_rows decides each in double: it replaces scores by weights and the keys of pairs that are no edges by ~key,
// which is negative.
struct Candidates {
  std::int32_t* keys = nullptr;
  float* scores = nullptr;                // base 2 (s log2 e), as computed: only to rule pairs out
  std::int32_t* count = nullptr;          // [splits][rows]
  const std::int64_t* offsets = nullptr;  // [splits * rows + 1] places of packed rows, or null:
  std::int64_t capacity = 0;              // place(s, r) = (s * rows + r) * capacity
};

// How a pass that packs its candidates finds their places; both give the same answer.
enum class Compaction {
  kDefault,  // what the environment's ATTNGRAPH_CUDA_COMPACTION says, "ballot" or "thrust"; otherwise kBallot
  kBallot,   // a kernel of our own: population counts and a scan over each row
  kThrust,   // thrust::copy_if; waits for the device once more
};

// What the plan decided for a chunk, as far as a score pass needs it.
struct PassOptions {
  bool entropy = false;     // RowStates::weighted is wanted
  std::int64_t top_k = 0;   // the selection's: candidates below a row's top_k-th best score may be dropped; 0: none
  bool two_passes = false;  // statistics first, then candidates against the final cut
  std::int32_t splits = 1;  // of the keys; 1 where a pass cannot split
  Compaction compaction = Compaction::kDefault;
};

// Where a pass that has all scores writes their softmax weights: row i of head g at data + g * stride_head +
// (i - query_begin) * stride_row, keys side by side, exp(s - logsumexp) with sinks in the sum, 0 for masked pairs.
struct DenseWeights {
  float* data = nullptr;  // device; null: not wanted
  std::int64_t stride_head = 0, stride_row = 0;
};

// Finished rows: what the host sends on. Edges of row r stand at offsets[r] .. offsets[r + 1], keys ascending.
struct RowResults {
  double* logsumexp = nullptr;      // [rows] natural, sinks included
  double* maximum = nullptr;        // [rows] natural
  double* kept_mass = nullptr;      // [rows]
  double* entropy = nullptr;        // [rows] or null
  std::int32_t* max_key = nullptr;  // [rows]
  std::int64_t* offsets = nullptr;  // [rows + 1]
};

}  // namespace ag::cuda
