// SPDX-License-Identifier: Apache-2.0
// Inside the room: what make_plan does for a CUDA backend once the parts that all backends share are decided.
#pragma once

#include "plan.hpp"

namespace ag {

void plan_cuda(const PlanShape& shape, const PlanOptions& options, const DeviceInfo& device, Plan& plan);

}  // namespace ag
