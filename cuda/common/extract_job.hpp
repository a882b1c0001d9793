// SPDX-License-Identifier: Apache-2.0
// One extraction as all lanes see it.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "../../src/core/problem.hpp"
#include "../../src/plan/plan.hpp"
#include "score_pass.hpp"

namespace ag::cuda {

// The query heads of one (batch, key head): what is known of the keys is shared by their chunks.
struct Group {
  std::int64_t batch = 0;
  std::int64_t key_head = 0;
  std::vector<std::int64_t> heads;
};

struct ExtractJob {
  const Problem& problem;
  const Plan& plan;
  const ScorePass& pass;
  const TensorView* weights = nullptr;  // [B, Hq, Nq, Nk] f32 to fill with dense weights; null: not wanted

  bool selects() const { return problem.selection.top_k > 0 || problem.selection.mass > 0; }
  bool wants_sums() const { return problem.stats.columns || problem.stats.distances; }
  // ln of the smallest weight of interest; -inf: every allowed pair.
  double log_cut() const {
    return plan.candidate_threshold > 0 ? std::log(plan.candidate_threshold) : -std::numeric_limits<double>::infinity();
  }
};

}  // namespace ag::cuda
