// SPDX-License-Identifier: Apache-2.0
#include "error.hpp"

namespace ag::cuda {

bool is_sticky(cudaError_t code) {
  switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorDevicesUnavailable: return true;
    default: return false;
  }
}

void cuda_check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky would be reported again by the next launch
  const char* const name = cudaGetErrorName(code);
  const char* const text = cudaGetErrorString(code);
  switch (code) {
    case cudaErrorMemoryAllocation:
      fail(Status::kDeviceOutOfMemory, "{}: device memory is exhausted; give a smaller workspace or fewer heads a call",
           what);
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady: fail(Status::kNoDevice, "{}: {} ({})", what, text, name);
    default: break;
  }
  if (is_sticky(code)) {
    fail(Status::kDeviceLost, "{}: {} ({}); the device cannot be used again by this process", what, text, name);
  }
  fail(Status::kInternal, "{}: {} ({})", what, text, name);
}

}  // namespace ag::cuda
