// SPDX-License-Identifier: Apache-2.0
// The kernels' tests on a real device. Without one: says why and returns 77, which ctest shows as skipped.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  int devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&devices);
  if (code != cudaSuccess || devices == 0) {
    std::printf("no CUDA device: %s\n", code == cudaSuccess ? "the driver sees none" : cudaGetErrorString(code));
    return 77;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
