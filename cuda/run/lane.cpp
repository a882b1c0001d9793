// SPDX-License-Identifier: Apache-2.0
#include "lane.hpp"

#include <chrono>
#include <thread>

#include "lane_memory.hpp"

namespace ag::cuda {

Lane::Lane(int device) : device_(device) {
  // Not ordered with the default stream: the caller's work elsewhere in the process goes on.
  cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  memory_ = std::make_unique<LaneMemory>();
}

Lane::~Lane() {
  settle();
  memory_.reset();  // on the stream that it came from
  cudaStreamDestroy(stream_);
}

void Lane::wait(const Poll& poll) {
  done_.record(stream_);
  wait_for(done_.get(), poll);
}

bool Lane::settle() noexcept {
  const bool good = cudaStreamSynchronize(stream_) == cudaSuccess;
  cudaGetLastError();
  return good;
}

void Lane::wait_for(cudaEvent_t event, const Poll& poll) {
  // Most waits end within milliseconds, and the shortest sleep takes 50 us: a core is spent on those. In long ones a
  // sleep is a small part of what has been waited already.
  using Clock = std::chrono::steady_clock;
  constexpr auto kAtFullSpeed = std::chrono::milliseconds(5), kLongest = std::chrono::milliseconds(1);
  const Clock::time_point begin = Clock::now();
  while (true) {
    const cudaError_t code = cudaEventQuery(event);
    if (code == cudaSuccess) return;
    if (code != cudaErrorNotReady) cuda_check(code, "waiting for the device");
    cudaGetLastError();
    poll();
    const Clock::duration waited = Clock::now() - begin;
    if (waited < kAtFullSpeed) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::min<Clock::duration>(waited / 50, kLongest));
    }
  }
}

std::byte* Lane::next_staging(std::int64_t bytes, const Poll& poll) {
  poll();
  Staging& staging = staging_[next_];
  if (staging.in_use) wait_for(staging.sent.get(), poll);
  staging.in_use = false;
  return staging.memory.resize(bytes);
}

void Lane::send(void* destination, const std::byte* bytes, std::int64_t count) {
  Staging& staging = staging_[next_];
  cuda_check(cudaMemcpyAsync(destination, bytes, static_cast<std::size_t>(count), cudaMemcpyHostToDevice, stream_),
             "copying to the device");
  staging.sent.record(stream_);
  staging.in_use = true;
  next_ = (next_ + 1) % staging_.size();
}

}  // namespace ag::cuda
