// SPDX-License-Identifier: Apache-2.0
// Device memory that belongs to a stream: allocated and freed in the stream's order, so that a chunk's buffers can be
// given back before its kernels have run.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "../../src/core/checked.hpp"
#include "error.hpp"

namespace ag::cuda {

template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // Uninitialised. Nothing is allocated for 0 elements.
  DeviceBuffer(std::int64_t size, cudaStream_t stream) : size_(size), stream_(stream) {
    if (size == 0) return;
    const std::int64_t bytes = checked_mul(size, static_cast<std::int64_t>(sizeof(T)), "bytes of a device buffer");
    void* p = nullptr;
    cuda_check(cudaMallocAsync(&p, static_cast<std::size_t>(bytes), stream), "cudaMallocAsync");
    data_ = static_cast<T*>(p);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    DeviceBuffer taken(std::move(other));
    swap(taken);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);  // after a sticky error it fails, and there is nothing to save
  }

  T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }
  // Fewer elements than there is memory for.
  void shorten(std::int64_t size) { size_ = size; }
  // The memory is the caller's from now on.
  T* release() {
    size_ = 0;
    return std::exchange(data_, nullptr);
  }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(stream_, other.stream_);
  }

  T* data_ = nullptr;
  std::int64_t size_ = 0;
  cudaStream_t stream_ = nullptr;
};

// Device memory that is kept from one use to the next, in the order of one stream: it grows, and never shrinks.
// Contents do not survive growth.
template <class T>
class KeptBuffer {
 public:
  T* resize(std::int64_t size, cudaStream_t stream) {
    if (size > buffer_.size()) {
      buffer_ = DeviceBuffer<T>();  // given back first: the device may not have room for both
      buffer_ = DeviceBuffer<T>(size, stream);
    }
    size_ = size;
    return data();
  }
  T* data() const { return size_ > 0 ? buffer_.data() : nullptr; }
  std::int64_t size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

 private:
  DeviceBuffer<T> buffer_;
  std::int64_t size_ = 0;
};

}  // namespace ag::cuda
