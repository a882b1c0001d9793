// SPDX-License-Identifier: Apache-2.0
// What kernel tests need: device memory, checked calls, and every order in which the emulator can run threads. The same
// text runs on a real device, where the orders are the device's own affair.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(ATTNGRAPH_EMULATION)
#include "emulation/emu.hpp"
#endif

namespace ag::test {

// Throws, which GoogleTest reports, with what the emulator says about it.
inline void cuda_ok(cudaError_t code, const char* what = "CUDA") {
  if (code == cudaSuccess) return;
  std::string message = fmt::format("{}: {} ({})", what, cudaGetErrorString(code), cudaGetErrorName(code));
#if defined(ATTNGRAPH_EMULATION)
  message += "; " + emu::last_error();
  emu::clear_last_error();
#endif
  throw std::runtime_error(message);
}

inline void wait_for_device() { cuda_ok(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

// Memory on the device, of exactly its size: the emulator sees an access beyond it. Uninitialised unless it is made
// from values.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t size) : size_(size) {
    if (size == 0) return;
    void* p = nullptr;
    cuda_ok(cudaMalloc(&p, size * sizeof(T)), "cudaMalloc");
    data_ = static_cast<T*>(p);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { upload(values); }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  void upload(const std::vector<T>& values) {
    if (values.size() != size_) throw std::logic_error("upload of another size");
    if (size_ > 0) cuda_ok(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), "upload");
  }
  std::vector<T> download() const { return download(0, size_); }
  // Of arrays that kernels fill in part: copying what nobody wrote is a fault to compute-sanitizer.
  std::vector<T> download(std::size_t first, std::size_t count) const {
    std::vector<T> values(count);
    if (count > 0)
      cuda_ok(cudaMemcpy(values.data(), data_ + first, count * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// test() once for every order of threads and blocks, named when it fails. A test leaves memory as it found it, or makes
// its own each time. ATTNGRAPH_EMU_SCHEDULES=forward,fiber keeps to some of the orders.
template <class Test>
void for_every_schedule(Test&& test) {
#if defined(ATTNGRAPH_EMULATION)
  const emu::Options before = emu::options();
  const std::pair<const char*, emu::Schedule> schedules[] = {{"forward", emu::Schedule::kForward},
                                                             {"reverse", emu::Schedule::kReverse},
                                                             {"random", emu::Schedule::kRandom},
                                                             {"warp", emu::Schedule::kWarpPriority},
                                                             {"fiber", emu::Schedule::kFiberPriority}};
  const char* const some = std::getenv("ATTNGRAPH_EMU_SCHEDULES");
  bool any = false;
  for (const auto& [name, schedule] : schedules) {
    if (some != nullptr && fmt::format(",{},", some).find(fmt::format(",{},", name)) == std::string::npos) continue;
    any = true;
    SCOPED_TRACE(fmt::format("schedule {}", name));
    emu::set_options(emu::options_for(schedule, 7));
    try {
      test();
    } catch (...) {
      emu::set_options(before);
      throw;
    }
    emu::set_options(before);
    if (::testing::Test::HasFatalFailure()) return;
  }
  ASSERT_TRUE(any) << "ATTNGRAPH_EMU_SCHEDULES names no schedule: " << some;
#else
  test();
#endif
}

inline constexpr cudaStream_t kDefaultStream = nullptr;

}  // namespace ag::test
