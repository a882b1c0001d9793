// SPDX-License-Identifier: Apache-2.0
// The devices that share one call, and the lanes on them.
#pragma once

#include <memory>
#include <vector>

#include "devices.hpp"
#include "lane.hpp"

namespace ag::cuda {

// Lane n is on device n % devices, so that few tasks spread over all of them.
//
// Lanes are taken from those that earlier calls have left, and left for later ones, with their streams and memory:
// a call like the last one creates and allocates nothing.
class Team {
 public:
  // Work on every lane begins after what is queued on `stream` now. Null stands for the default stream of the first
  // device, which matters only when an input is in device memory.
  Team(const std::vector<int>& devices, int lanes, void* stream, bool reads_device_memory);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return static_cast<int>(lanes_.size()); }
  Lane& lane(int worker) { return *lanes_[static_cast<std::size_t>(worker)]; }
  // Index of the lane's device among `devices`.
  std::size_t place(int worker) const { return static_cast<std::size_t>(worker) % devices_; }

 private:
  std::size_t devices_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

// Gives back what idle lanes hold, on every device. For the way out of exhausted memory.
void release_idle_lanes();

// Runs `work`; a sticky error of the device becomes the process's (devices.hpp).
template <class F>
auto noticing_loss(F&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.status() == Status::kDeviceLost) lose_devices(error.what());
    throw;
  }
}

}  // namespace ag::cuda
