// SPDX-License-Identifier: Apache-2.0
// A test of the emulated runtime begins and ends with nothing allocated, queued, broken or reported.
#pragma once

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "emu.hpp"
#include "runtime.hpp"

namespace ag::emu {

class Runtime : public testing::Test {
 protected:
  void SetUp() override { reset_runtime(Settings()); }
  void TearDown() override {
    EXPECT_THAT(take_reports(), testing::IsEmpty());
    reset_runtime(Settings());
    clear_last_error();
  }

  static void use(Order order) {
    Settings s;
    s.order = order;
    reset_runtime(s);
  }

  // What has been reported, which the test expects.
  static std::string reported() {
    std::string all;
    for (const std::string& text : take_reports()) all += text + "\n";
    return all;
  }

  static void* device_memory(std::size_t bytes) {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, bytes), cudaSuccess);
    return p;
  }

  static cudaStream_t new_stream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, flags), cudaSuccess);
    return stream;
  }

  // A kernel of one thread whose arguments are these pointers.
  static cudaError_t launch_on(cudaStream_t stream, const std::vector<const void*>& pointers,
                               const std::function<void()>& body) {
    LaunchConfig config;
    config.grid = config.block = dim3(1);
    config.stream = stream;
    config.kernel = reinterpret_cast<const void*>(&Runtime::reported);
    config.parameter_bytes = pointers.size() * sizeof(void*);
    for (const void* const& pointer : pointers) {
      config.arguments.push_back(std::as_bytes(std::span<const void* const>(&pointer, 1)));
    }
    config.name = "a_kernel";
    return launch(config, body);
  }
};

}  // namespace ag::emu
