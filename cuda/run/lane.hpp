// SPDX-License-Identifier: Apache-2.0
// One batch at a time on one device: a stream, memory that stays for the next one, pinned memory on the way there and
// back, and waiting that lets the caller be heard.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <utility>

#include "../../src/core/ordered_tasks.hpp"
#include "../device/device_buffer.hpp"
#include "../device/error.hpp"

namespace ag::cuda {

// Host memory that copies run to and from without a detour. Grows, never shrinks; contents do not survive growth.
template <class T>
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  ~PinnedBuffer() {
    if (data_ != nullptr) cudaFreeHost(data_);
  }

  T* resize(std::int64_t size) {
    if (size > capacity_) {
      if (data_ != nullptr) cudaFreeHost(data_);
      data_ = nullptr;
      capacity_ = 0;
      const std::int64_t room = size + size / 4;
      void* p = nullptr;
      const std::int64_t bytes = checked_mul(room, static_cast<std::int64_t>(sizeof(T)), "bytes of a pinned buffer");
      const cudaError_t code = cudaMallocHost(&p, static_cast<std::size_t>(bytes));
      if (code == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        fail(Status::kOutOfMemory, "{} bytes of pinned host memory cannot be had; ask for less at a time", bytes);
      }
      cuda_check(code, "cudaMallocHost");
      data_ = static_cast<T*>(p);
      capacity_ = room;
    }
    size_ = size;
    return data_;
  }
  T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  T& operator[](std::int64_t n) const { return data_[n]; }

 private:
  void swap(PinnedBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  T* data_ = nullptr;
  std::int64_t size_ = 0, capacity_ = 0;
};

class Event {
 public:
  Event() { cuda_check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(cudaStream_t stream) { cuda_check(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Makes a device the calling thread's, for the way out of a failure, and answers which one was before.
inline int use_device(int device) noexcept {
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess) before = 0;
  if (before != device) cudaSetDevice(device);
  return before;
}

// The calling thread's device while it lives; afterwards what it was before.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    cuda_check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device) cuda_check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~CurrentDevice() { use_device(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
};

struct LaneMemory;

// Used by one thread at a time, with `device` current. Lanes outlive calls (team.hpp): what they hold is kept.
class Lane {
 public:
  explicit Lane(int device);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  int device() const { return device_; }
  cudaStream_t stream() const { return stream_; }
  LaneMemory& memory() { return *memory_; }
  PinnedBuffer<std::byte>& tables() { return tables_; }  // on their way to LaneMemory::tables

  // Until everything queued so far is done. Polls, so it throws what the poll throws; then the work may still run, and
  // what it uses must stay: the lane's destructor and settle() wait for it.
  void wait(const Poll& poll);
  // The same without a poll and without an error: for the way out of a failure.
  // False when the lane cannot be used any more.
  bool settle() noexcept;
  // What is queued from now on comes after `event`, or after what is queued on `stream` by now.
  void come_after(cudaEvent_t event) { cuda_check(cudaStreamWaitEvent(stream_, event, 0), "cudaStreamWaitEvent"); }
  Event& mark() { return mark_; }

  // Host bytes to the device by way of pinned memory: fill(destination, first byte, bytes) is called for consecutive
  // pieces, each a multiple of `unit` bytes but for the last.
  template <class Fill>
  void upload(void* destination, std::int64_t bytes, std::int64_t unit, const Poll& poll, Fill&& fill) {
    const std::int64_t piece = std::max(unit, kStagingBytes / unit * unit);
    for (std::int64_t at = 0; at < bytes; at += piece) {
      const std::int64_t count = std::min(piece, bytes - at);
      std::byte* const staging = next_staging(count, poll);
      fill(staging, at, count);
      send(static_cast<std::byte*>(destination) + at, staging, count);
    }
  }

 private:
  static constexpr std::int64_t kStagingBytes = 4 << 20;

  struct Staging {
    PinnedBuffer<std::byte> memory;
    Event sent;
    bool in_use = false;
  };

  std::byte* next_staging(std::int64_t bytes, const Poll& poll);
  void send(void* destination, const std::byte* staging, std::int64_t bytes);
  void wait_for(cudaEvent_t event, const Poll& poll);

  const int device_;
  cudaStream_t stream_ = nullptr;
  Event done_, mark_;
  std::unique_ptr<LaneMemory> memory_;
  PinnedBuffer<std::byte> tables_;
  std::array<Staging, 2> staging_;
  std::size_t next_ = 0;
};

// On the way out of a failure, waits for what is queued, before the memory declared above it goes.
class SettledLane {
 public:
  explicit SettledLane(Lane& lane) : lane_(lane) {}
  ~SettledLane() {
    if (std::uncaught_exceptions() > 0) lane_.settle();
  }
  SettledLane(const SettledLane&) = delete;
  SettledLane& operator=(const SettledLane&) = delete;

 private:
  Lane& lane_;
};

template <class T>
void download(T* host, const T* device, std::int64_t count, cudaStream_t stream, const char* what) {
  if (count > 0)
    cuda_check(
        cudaMemcpyAsync(host, device, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyDeviceToHost, stream),
        what);
}

// The host memory must stay as it is until the lane has been waited for.
template <class T>
void upload_small(T* device, const T* host, std::int64_t count, cudaStream_t stream, const char* what) {
  if (count > 0)
    cuda_check(
        cudaMemcpyAsync(device, host, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyHostToDevice, stream),
        what);
}

}  // namespace ag::cuda
