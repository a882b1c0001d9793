// SPDX-License-Identifier: Apache-2.0
// The two jobs of the cpu backend.
#pragma once

#include "../core/control.hpp"
#include "../core/problem.hpp"
#include "../core/row_block.hpp"
#include "../plan/plan.hpp"

namespace ag::cpu {

RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control);
RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control);

}  // namespace ag::cpu
