// SPDX-License-Identifier: Apache-2.0
// CUDA's error codes as ag::Error. Host code calls the runtime through cuda_check; kernels' launchers return the code.
#pragma once

#include <cuda_runtime_api.h>

#include "../../src/core/error.hpp"

namespace ag::cuda {

// Throws what the code means: device memory exhausted, no device or driver, a lost device (sticky errors), or a bug.
void cuda_check(cudaError_t code, const char* what);

// A sticky error leaves the process's context on the device unusable: nothing but a new process helps.
bool is_sticky(cudaError_t code);

}  // namespace ag::cuda
