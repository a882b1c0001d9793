// SPDX-License-Identifier: Apache-2.0
// Q and K to edges, or to dense weights.
#pragma once

#include <span>

#include "../../src/core/control.hpp"
#include "../../src/core/problem.hpp"
#include "../../src/core/row_block.hpp"
#include "../../src/plan/plan.hpp"
#include "../stages/score_pass.hpp"
#include "extract_job.hpp"

namespace ag::cuda {

class Team;
struct BatchResult;

// Who takes finished batches, in the order of the answer.
class BatchSink {
 public:
  virtual ~BatchSink() = default;
  virtual void no_rows(const ExtractJob& job) = 0;  // instead of all batches: no query is asked for
  virtual void batch(const ExtractJob& job, std::span<const ChunkSpan> spans, BatchResult& result) = 0;
  virtual void end(Team&, const ExtractJob&) {}  // after the last one, while lanes are held
};

RunReport extract_batches(const ScorePass& pass, const Problem& problem, const Plan& plan, BatchSink& sink,
                          Control& control, bool keeps_on_device);
RunReport extract(const ScorePass& pass, const Problem& problem, const Plan& plan, RowSink& sink, Control& control);
// Dense softmax weights to `out`, [B, Hq, Nq, Nk] f32 row-major, of the rows and heads that are asked for.
RunReport write_weights(const ScorePass& pass, const Problem& problem, const Plan& plan, const TensorView& out,
                        Control& control);

}  // namespace ag::cuda
