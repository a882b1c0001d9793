// SPDX-License-Identifier: Apache-2.0
// One extraction, as all workers see it: the problem, the plan and what follows from both.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "../core/problem.hpp"
#include "../plan/plan.hpp"

namespace ag::cpu {

struct Group : HeadGroup {
  std::int64_t tasks = 0;  // that read the packed keys
};

struct Job {
  const Problem& problem;
  const Plan& plan;

  // Query values are multiplied by it before the product, so that scores come out in base 2 (or ready for tanh).
  double query_factor() const { return problem.score_rule().unit(); }
  // log2 of the smallest weight of interest; -inf: every pair is of interest.
  double log2_cut() const {
    return plan.candidate_threshold > 0 ? std::log2(plan.candidate_threshold)
                                        : -std::numeric_limits<double>::infinity();
  }
  // ln t of the edge rule; -inf when top_k or mass alone select.
  double log_threshold() const { return std::log(problem.selection.threshold); }
};

}  // namespace ag::cpu
