// SPDX-License-Identifier: Apache-2.0
// Answers that stay in device memory.
#pragma once

#include <memory>

#include "../../src/backend/device_graph.hpp"
#include "../../src/core/control.hpp"
#include "../../src/core/problem.hpp"
#include "../../src/plan/plan.hpp"
#include "score_pass.hpp"

namespace ag::cuda {

// The graph that extract() sends to a sink, in the memory of the plan's first device. Rows pass through the host, where
// they are put in order and selected: edges are few beside the scores that they come from.
std::unique_ptr<DeviceGraph> extract_on_device(const ScorePass& pass, const Problem& problem, const Plan& plan,
                                               Control& control);

}  // namespace ag::cuda
