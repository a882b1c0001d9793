// SPDX-License-Identifier: Apache-2.0
// What a plan is expected to take, for `auto` to choose by. Rough on purpose: the choice matters where the two sides
// are far apart.
#pragma once

#include <string>

#include "plan.hpp"

namespace ag {

// Seconds of a call, host memory to host memory unless the inputs are on a device.
struct Cost {
  double start = 0;  // once a process: the driver's context, code
  double run = 0;
  double total() const { return start + run; }
};

Cost cost_of(const Plan& plan, const PlanShape& shape, const DeviceInfo& device);

// Pairs that the mask's rules allow, as far as lengths and tensors leave them.
double pairs_of(const PlanShape& shape);

// Work that the CPU has done sooner than any device could be made ready for it.
inline constexpr double kTooShortToAsk = 0.01;

// Whether to leave the CPU for a CUDA backend. `forgone` is what earlier calls lost by staying on the CPU for the sake
// of a start alone: many calls pay for one. Updated by what this one loses.
bool prefers_cuda(const Cost& cpu, const Cost& cuda, double& forgone);

// "about 71 ms on the CPU, 310 ms by cuda_streaming (297 ms of it to start)"
std::string describe(const Cost& cpu, const Cost& cuda, const std::string& cuda_backend);

}  // namespace ag
