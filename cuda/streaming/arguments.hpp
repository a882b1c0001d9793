// SPDX-License-Identifier: Apache-2.0
// What the fused kernel is told: the chunk, and numbers that the host has made of its scalars.
#pragma once

#include <cstdint>

#include "../common/work.hpp"

namespace ag::cuda {

// Where a row's cut, below which a score is no candidate, comes from.
enum class CutSource : std::int32_t {
  kNone,    // no candidates: statistics alone
  kOnline,  // from the sum so far: it rises while keys are visited
  kFixed,   // StreamingArguments::cuts alone: the sum is known, or given
};

struct StreamingArguments {
  Chunk chunk;
  Operands operands;
  RowFacts facts;
  RowStates states;
  Candidates candidates;
  CutSource cut_source = CutSource::kNone;
  const float* cuts = nullptr;  // [rows] base 2: lower bounds of the rows' cuts; null: none
  std::int64_t top_k = 0;       // candidates below the top_k-th best of a row may be dropped; 0: none
  bool sums = false;            // RowStates::sum is wanted; otherwise it is 1 for rows that have keys
  bool entropy = false;         // RowStates::weighted is wanted; sums too. General variant only

  // A product of operands is q . k * 2^(q_exponent + k_exponent). Sign and a scale of 0 are put into the query's bits,
  // (bits & query_and) ^ query_xor, so that a larger product is always a larger score.
  std::uint32_t query_and = 0xFFFFFFFFu, query_xor = 0;
  float unit = 1;            // base-2 score of a product of 1, positive; with a softcap, score / softcap
  double natural_unit = 1;   // nats of what the maximum is kept in: products (lean), base-2 scores (general)
  float log2_threshold = 0;  // of the smallest weight of interest; -inf: every allowed pair is a candidate
  float softcap = 0;         // nats; 0: none. General variant only
};

}  // namespace ag::cuda
