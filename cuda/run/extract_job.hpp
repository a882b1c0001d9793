// SPDX-License-Identifier: Apache-2.0
// One extraction as all lanes see it.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../../src/core/problem.hpp"
#include "../../src/plan/plan.hpp"
#include "../stages/score_pass.hpp"

namespace ag::cuda {

// Query heads [first, first + heads) of a group's list, queries [query_begin, query_begin + queries) of each: a chunk
// of the table (work.hpp).
struct ChunkSpan {
  std::size_t group = 0;
  std::size_t first = 0, heads = 0;
  std::int64_t query_begin = 0, queries = 0;
  std::int64_t rows() const { return static_cast<std::int64_t>(heads) * queries; }
};

struct ExtractJob {
  const Problem& problem;
  const Plan& plan;
  const ScorePass& pass;
  std::vector<HeadGroup> groups;
  const TensorView* weights = nullptr;  // [B, Hq, Nq, Nk] f32 to fill with dense weights; null: not wanted
  bool keeps_on_device = false;         // edges stay where they are made
  std::uint64_t call = 0;               // a number that no other call has

  bool selects() const { return problem.selection.top_k > 0 || problem.selection.mass > 0; }
  bool wants_sums() const { return problem.stats.columns || problem.stats.distances; }
  // ln of the smallest weight of interest; -inf: every allowed pair.
  double log_cut() const {
    return plan.candidate_threshold > 0 ? std::log(plan.candidate_threshold) : -std::numeric_limits<double>::infinity();
  }
  const HeadGroup& group_of(const ChunkSpan& span) const { return groups[span.group]; }
  std::int64_t head_of(const ChunkSpan& span, std::int64_t g) const {
    return group_of(span).heads[span.first + static_cast<std::size_t>(g)];
  }
};

}  // namespace ag::cuda
