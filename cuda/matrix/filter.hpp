// SPDX-License-Identifier: Apache-2.0
// A ready matrix to edges.
#pragma once

#include "../../src/core/control.hpp"
#include "../../src/core/problem.hpp"
#include "../../src/core/row_block.hpp"
#include "../../src/plan/plan.hpp"

namespace ag::cuda {

RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control);

}  // namespace ag::cuda
