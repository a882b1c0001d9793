// SPDX-License-Identifier: Apache-2.0
// What the emulator's tests share: device memory, launches, schedules.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <new>
#include <string>
#include <tuple>
#include <utility>

#include "emu.hpp"
#include "runtime.hpp"

namespace ag::emu {

// Memory that both sides may touch. What no element is given for is NaN, or -1.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) {
    void* p = nullptr;
    if (cudaMallocManaged(&p, size * sizeof(T), cudaMemAttachGlobal) != cudaSuccess) throw std::bad_alloc();
    data_ = static_cast<T*>(p);
  }
  template <class F>
  DeviceArray(std::size_t size, F element) : DeviceArray(size) {
    for (std::size_t i = 0; i < size; ++i) data_[i] = element(i);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* data() const { return data_; }
  T operator[](std::size_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

// Launches and waits. A failure is forgotten when it has been returned.
template <class... Parameters, class... Arguments>
cudaError_t run(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                Arguments... arguments) {
  clear_last_error();
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = dynamic_shared_bytes;
  const cudaError_t refused = cudaLaunchKernelEx(&config, kernel, arguments...);
  const cudaError_t code = refused != cudaSuccess ? refused : cudaDeviceSynchronize();
  revive_devices();
  return code;
}

// Sets the options for a test and puts the old ones back.
class WithOptions {
 public:
  explicit WithOptions(const Options& now) { set_options(now); }
  ~WithOptions() { set_options(before_); }
  WithOptions(const WithOptions&) = delete;
  WithOptions& operator=(const WithOptions&) = delete;

 private:
  Options before_ = options();
};

inline std::string name_of(Schedule schedule) {
  switch (schedule) {
    case Schedule::kForward: return "Forward";
    case Schedule::kReverse: return "Reverse";
    case Schedule::kRandom: return "Random";
    case Schedule::kWarpPriority: return "WarpPriority";
    case Schedule::kFiberPriority: return "FiberPriority";
  }
  return "?";
}

inline constexpr Schedule kSchedules[] = {Schedule::kForward, Schedule::kReverse, Schedule::kRandom,
                                          Schedule::kWarpPriority, Schedule::kFiberPriority};

// Tests of correct kernels: each runs under every schedule with several seeds, copies lazy and not.
class EverySchedule : public testing::TestWithParam<std::tuple<Schedule, std::uint64_t>> {
 protected:
  EverySchedule() : options_(made()) {}

 private:
  static Options made() {
    const auto [schedule, seed] = GetParam();
    Options options = options_for(schedule, seed);
    options.copies = seed % 3 == 1 ? Copies::kLazy : seed % 3 == 2 ? Copies::kEager : Copies::kRandom;
    return options;
  }
  WithOptions options_;
};

}  // namespace ag::emu
