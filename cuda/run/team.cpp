// SPDX-License-Identifier: Apache-2.0
#include "team.hpp"

#include <cstdint>
#include <exception>
#include <mutex>
#include <utility>

#include "devices.hpp"

namespace ag::cuda {
namespace {

// Freed memory that a device keeps for the next call rather than giving it back to the driver.
constexpr std::uint64_t kKeptBytes = std::uint64_t{256} << 20;

void keep_freed_memory(int device) {
  cudaMemPool_t pool = nullptr;
  cuda_check(cudaDeviceGetDefaultMemPool(&pool, device), "cudaDeviceGetDefaultMemPool");
  std::uint64_t kept = 0;
  cuda_check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "the device's memory pool");
  if (kept >= kKeptBytes) return;  // somebody in this process wants more
  kept = kKeptBytes;
  cuda_check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "the device's memory pool");
}

// Lanes that no call uses.
class IdleLanes {
 public:
  std::unique_ptr<Lane> take(int device) {
    const std::lock_guard lock(mutex_);
    for (auto it = lanes_.rbegin(); it != lanes_.rend(); ++it) {
      if ((*it)->device() != device) continue;
      std::unique_ptr<Lane> lane = std::move(*it);
      lanes_.erase(std::next(it).base());
      return lane;
    }
    return nullptr;
  }
  void leave(std::unique_ptr<Lane> lane) {
    const std::lock_guard lock(mutex_);
    lanes_.push_back(std::move(lane));
  }
  void destroy_all() {
    std::vector<std::unique_ptr<Lane>> all;
    {
      const std::lock_guard lock(mutex_);
      all.swap(lanes_);
    }
    for (auto& lane : all) {
      const int before = use_device(lane->device());
      lane.reset();
      use_device(before);
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

// Never destroyed: when static objects go, the driver may be gone. The emulated one, which counts what leaks, is not.
IdleLanes& idle_lanes() {
  static IdleLanes* const kept = new IdleLanes();
#if defined(ATTNGRAPH_EMULATION)
  static const std::shared_ptr<IdleLanes> at_exit(kept, [](IdleLanes* all) { all->destroy_all(); });
#endif
  return *kept;
}

}  // namespace

void release_idle_lanes() { idle_lanes().destroy_all(); }

Team::Team(const std::vector<int>& devices, int lanes, void* stream, bool reads_device_memory)
    : devices_(devices.size()) {
  start_devices();
  for (int n = 0; n < lanes; ++n) {
    for (const int device : devices) {
      const CurrentDevice current(device);
      if (n == 0) keep_freed_memory(device);
      std::unique_ptr<Lane> lane = idle_lanes().take(device);
      lanes_.push_back(lane != nullptr ? std::move(lane) : std::make_unique<Lane>(device));
    }
  }
  if (stream == nullptr && !reads_device_memory) return;
  const CurrentDevice current(devices.front());
  Event& ready = lanes_.front()->mark();
  const cudaError_t code = cudaEventRecord(ready.get(), static_cast<cudaStream_t>(stream));
  if (code == cudaErrorInvalidResourceHandle) {
    cudaGetLastError();
    fail(Status::kArgument, "stream is no stream of CUDA device {}, on which the call works", devices.front());
  }
  cuda_check(code, "cudaEventRecord on the caller's stream");
  for (const auto& lane : lanes_) {
    const CurrentDevice own(lane->device());
    lane->come_after(ready.get());
  }
}

Team::~Team() {
  const bool failed = std::uncaught_exceptions() > 0;
  for (auto& lane : lanes_) {
    const int before = use_device(lane->device());
    if (!failed || lane->settle()) {
      idle_lanes().leave(std::move(lane));
    } else {
      lane.reset();
    }
    use_device(before);
  }
}

}  // namespace ag::cuda
