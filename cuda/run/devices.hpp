// SPDX-License-Identifier: Apache-2.0
// The devices of this process, and whether they can still be used.
#pragma once

#include <string>
#include <vector>

#include "../../src/core/error.hpp"
#include "../../src/plan/plan.hpp"

namespace ag::cuda {

// What the driver said when it was first asked. No context is made for it.
struct Devices {
  DeviceInfo info;      // facts and target filled; of the first usable device
  std::string missing;  // why there is no usable one, a sentence; empty when there is
};
const Devices& devices();

// The same, with what this process has begun: has_context, has_started.
DeviceInfo device_info();

// From now on has_started.
void start_devices();

// Throws kForked in a process that was forked after the driver was asked, kDeviceLost after a sticky error, kNoDevice.
void require_devices();

// The same as a sentence, "" when all is well, and its status.
struct Obstacle {
  Status status = Status::kOk;
  std::string sentence;
};
Obstacle obstacle();

// From now on require_devices() throws kDeviceLost with this message: a sticky error does not go away.
void lose_devices(const std::string& message);

}  // namespace ag::cuda
