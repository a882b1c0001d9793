// SPDX-License-Identifier: Apache-2.0
// Answers that stay in device memory.
#pragma once

#include <memory>

#include "../../src/backend/device_graph.hpp"
#include "../../src/core/control.hpp"
#include "../../src/core/problem.hpp"
#include "../../src/plan/plan.hpp"
#include "../stages/score_pass.hpp"

namespace ag::cuda {

// The graph that extract() sends to a sink, in the memory of the plan's first device, which its edges never leave. When
// the caller has named a stream, they are ready for what is queued there after the call; otherwise when it returns.
std::unique_ptr<DeviceGraph> extract_on_device(const ScorePass& pass, const Problem& problem, const Plan& plan,
                                               Control& control);

}  // namespace ag::cuda
