// SPDX-License-Identifier: Apache-2.0
// The two jobs of a CUDA backend.
#pragma once

#include "../../src/core/control.hpp"
#include "../../src/core/problem.hpp"
#include "../../src/core/row_block.hpp"
#include "../../src/plan/plan.hpp"
#include "score_pass.hpp"

namespace ag::cuda {

RunReport extract(const ScorePass& pass, const Problem& problem, const Plan& plan, RowSink& sink, Control& control);
// Dense softmax weights to `out`, [B, Hq, Nq, Nk] f32 row-major, of the rows and heads that are asked for.
RunReport write_weights(const ScorePass& pass, const Problem& problem, const Plan& plan, const TensorView& out,
                        Control& control);
RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control);

}  // namespace ag::cuda
