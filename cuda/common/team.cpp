// SPDX-License-Identifier: Apache-2.0
#include "team.hpp"

#include <cstdint>

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

}  // namespace

Team::Team(const std::vector<int>& devices, int lanes, void* stream, bool reads_device_memory)
    : devices_(devices.size()) {
  for (int n = 0; n < lanes; ++n) {
    for (const int device : devices) {
      const CurrentDevice current(device);
      if (n == 0) keep_freed_memory(device);
      lanes_.push_back(std::make_unique<Lane>(device));
    }
  }
  if (stream == nullptr && !reads_device_memory) return;
  const CurrentDevice current(devices.front());
  Event ready;
  const cudaError_t code = cudaEventRecord(ready.get(), static_cast<cudaStream_t>(stream));
  if (code == cudaErrorInvalidResourceHandle) {
    cudaGetLastError();
    fail(Status::kArgument, "stream is no stream of CUDA device {}, on which the call works", devices.front());
  }
  cuda_check(code, "cudaEventRecord on the caller's stream");
  for (const auto& lane : lanes_) {
    const CurrentDevice own(lane->device());
    cuda_check(cudaStreamWaitEvent(lane->stream(), ready.get(), 0), "cudaStreamWaitEvent");
  }
}

Team::~Team() {
  for (auto& lane : lanes_) {
    const int before = use_device(lane->device());
    lane.reset();
    use_device(before);
  }
}

}  // namespace ag::cuda
