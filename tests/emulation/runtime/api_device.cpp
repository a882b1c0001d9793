// SPDX-License-Identifier: Apache-2.0
// Devices, versions, errors.
#include <cstdio>
#include <cstring>

#include "device_limits.hpp"
#include "state.hpp"

namespace ag::emu {
namespace {

struct ErrorText {
  cudaError_t code;
  const char* name;
  const char* text;
};

#define ATTNGRAPH_EMU_ERROR(name, text) \
  { name, #name, text }
constexpr ErrorText kErrors[] = {
    ATTNGRAPH_EMU_ERROR(cudaSuccess, "no error"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidValue, "invalid argument"),
    ATTNGRAPH_EMU_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInitializationError, "initialization error"),
    ATTNGRAPH_EMU_ERROR(cudaErrorCudartUnloading, "driver shutting down"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidPitchValue, "invalid pitch argument"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    ATTNGRAPH_EMU_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ATTNGRAPH_EMU_ERROR(cudaErrorDevicesUnavailable, "CUDA-capable device(s) is/are busy or unavailable"),
    ATTNGRAPH_EMU_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    ATTNGRAPH_EMU_ERROR(cudaErrorUnsupportedPtxVersion, "the provided PTX was compiled with an unsupported toolchain."),
    ATTNGRAPH_EMU_ERROR(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered"),
    ATTNGRAPH_EMU_ERROR(cudaErrorNvlinkUncorrectable, "uncorrectable NVLink error detected during the execution"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ATTNGRAPH_EMU_ERROR(cudaErrorNotReady, "device not ready"),
    ATTNGRAPH_EMU_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ATTNGRAPH_EMU_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ATTNGRAPH_EMU_ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    ATTNGRAPH_EMU_ERROR(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    ATTNGRAPH_EMU_ERROR(cudaErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    ATTNGRAPH_EMU_ERROR(cudaErrorPeerAccessUnsupported, "peer access is not supported between these two devices"),
    ATTNGRAPH_EMU_ERROR(cudaErrorAssert, "device-side assert triggered"),
    ATTNGRAPH_EMU_ERROR(cudaErrorHardwareStackError, "hardware stack error"),
    ATTNGRAPH_EMU_ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    ATTNGRAPH_EMU_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidAddressSpace, "operation not supported on global/shared address space"),
    ATTNGRAPH_EMU_ERROR(cudaErrorInvalidPc, "invalid program counter"),
    ATTNGRAPH_EMU_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    ATTNGRAPH_EMU_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    ATTNGRAPH_EMU_ERROR(cudaErrorNotSupported, "operation not supported"),
    ATTNGRAPH_EMU_ERROR(cudaErrorSystemNotReady, "system not yet initialized"),
    ATTNGRAPH_EMU_ERROR(cudaErrorSystemDriverMismatch,
                        "system has unsupported display driver / cuda driver combination"),
    ATTNGRAPH_EMU_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef ATTNGRAPH_EMU_ERROR

const ErrorText* text_of(cudaError_t code) {
  for (const ErrorText& entry : kErrors) {
    if (entry.code == code) return &entry;
  }
  return nullptr;
}

bool exists(int device) { return device >= 0 && device < State::get().settings.devices; }

int attribute(cudaDeviceAttr name, int device) {
  const Settings& s = State::get().settings;
  const DeviceLimits limits = limits_of(s.compute_capability);
  switch (name) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY: return kThreadsPerBlock;
    case cudaDevAttrMaxBlockDimZ: return 64;
    case cudaDevAttrMaxGridDimX: return 0x7fffffff;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock: return kSharedBytesPerBlock;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return shared_bytes_opt_in(s.compute_capability);
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return limits.shared_bytes_per_processor;
    case cudaDevAttrReservedSharedMemoryPerBlock: return s.compute_capability < 80 ? 0 : kReservedSharedBytes;
    case cudaDevAttrTotalConstantMemory: return 65536;
    case cudaDevAttrWarpSize: return 32;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: return kRegistersPerProcessor;
    case cudaDevAttrMultiProcessorCount: return s.multiprocessors;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return limits.threads_per_processor;
    case cudaDevAttrMaxBlocksPerMultiprocessor: return limits.blocks_per_processor;
    case cudaDevAttrComputeCapabilityMajor: return s.compute_capability / 10;
    case cudaDevAttrComputeCapabilityMinor: return s.compute_capability % 10;
    case cudaDevAttrL2CacheSize: return 4 << 20;
    case cudaDevAttrMemoryClockRate:
    case cudaDevAttrClockRate: return 1'000'000;  // kHz
    case cudaDevAttrGlobalMemoryBusWidth: return 256;
    case cudaDevAttrPciBusId: return device + 1;
    case cudaDevAttrAsyncEngineCount: return 2;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrCanMapHostMemory: return 1;
    default: return 0;  // textures, surfaces, and abilities that the emulation does not have
  }
}

cudaDeviceProp properties(int device) {
  const auto at = [device](cudaDeviceAttr name) { return attribute(name, device); };
  const auto size_at = [&](cudaDeviceAttr name) { return static_cast<std::size_t>(at(name)); };
  const Settings& s = State::get().settings;
  cudaDeviceProp p{};
  std::snprintf(p.name, sizeof p.name, "emulated device %d.%d", s.compute_capability / 10, s.compute_capability % 10);
  std::memset(p.uuid.bytes, 0, sizeof p.uuid.bytes);
  p.uuid.bytes[15] = static_cast<char>(device);
  p.totalGlobalMem = s.memory_bytes;
  p.sharedMemPerBlock = size_at(cudaDevAttrMaxSharedMemoryPerBlock);
  p.sharedMemPerBlockOptin = size_at(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  p.sharedMemPerMultiprocessor = size_at(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  p.reservedSharedMemPerBlock = size_at(cudaDevAttrReservedSharedMemoryPerBlock);
  p.totalConstMem = size_at(cudaDevAttrTotalConstantMemory);
  p.regsPerBlock = at(cudaDevAttrMaxRegistersPerBlock);
  p.regsPerMultiprocessor = at(cudaDevAttrMaxRegistersPerMultiprocessor);
  p.warpSize = at(cudaDevAttrWarpSize);
  p.memPitch = 0x7fffffff;
  p.maxThreadsPerBlock = at(cudaDevAttrMaxThreadsPerBlock);
  p.maxThreadsPerMultiProcessor = at(cudaDevAttrMaxThreadsPerMultiProcessor);
  p.maxBlocksPerMultiProcessor = at(cudaDevAttrMaxBlocksPerMultiprocessor);
  for (int axis = 0; axis < 3; ++axis) {
    p.maxThreadsDim[axis] = at(static_cast<cudaDeviceAttr>(cudaDevAttrMaxBlockDimX + axis));
    p.maxGridSize[axis] = at(static_cast<cudaDeviceAttr>(cudaDevAttrMaxGridDimX + axis));
  }
  p.major = at(cudaDevAttrComputeCapabilityMajor);
  p.minor = at(cudaDevAttrComputeCapabilityMinor);
  p.multiProcessorCount = at(cudaDevAttrMultiProcessorCount);
  p.l2CacheSize = at(cudaDevAttrL2CacheSize);
  p.memoryBusWidth = at(cudaDevAttrGlobalMemoryBusWidth);
  p.pciBusID = at(cudaDevAttrPciBusId);
  p.asyncEngineCount = at(cudaDevAttrAsyncEngineCount);
  p.concurrentKernels = p.unifiedAddressing = p.managedMemory = p.memoryPoolsSupported = 1;
  p.streamPrioritiesSupported = p.canMapHostMemory = 1;
  return p;
}

}  // namespace
}  // namespace ag::emu

using namespace ag::emu;

extern "C" {

cudaError_t CUDARTAPI cudaGetDeviceCount(int* count) {
  if (count != nullptr) *count = 0;
  return enter("cudaGetDeviceCount", Needs::kDriver, [&] {
    if (count == nullptr) return cudaErrorInvalidValue;
    *count = State::get().settings.devices;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaGetDevice(int* device) {
  return enter("cudaGetDevice", Needs::kDriver, [&] {
    if (device == nullptr) return cudaErrorInvalidValue;
    *device = current_device().index;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaSetDevice(int device) {
  return enter("cudaSetDevice", Needs::kDriver, [&] {
    if (!exists(device)) return cudaErrorInvalidDevice;
    this_thread_state().device = device;
    return State::get().device(device).sticky;
  });
}

cudaError_t CUDARTAPI cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
  return enter("cudaGetDeviceProperties", Needs::kDriver, [&] {
    if (out == nullptr) return cudaErrorInvalidValue;
    if (!exists(device)) return cudaErrorInvalidDevice;
    *out = properties(device);
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device) {
  return enter("cudaDeviceGetAttribute", Needs::kDriver, [&] {
    if (value == nullptr) return cudaErrorInvalidValue;
    if (!exists(device)) return cudaErrorInvalidDevice;
    *value = attribute(name, device);
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaDeviceGetPCIBusId(char* out, int length, int device) {
  return enter("cudaDeviceGetPCIBusId", Needs::kDriver, [&] {
    if (out == nullptr || length < 13) return cudaErrorInvalidValue;
    if (!exists(device)) return cudaErrorInvalidDevice;
    std::snprintf(out, static_cast<std::size_t>(length), "0000:%02X:00.0", static_cast<unsigned>(device + 1));
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaDriverGetVersion(int* version) {
  return enter("cudaDriverGetVersion", Needs::kNothing, [&] {
    if (version == nullptr) return cudaErrorInvalidValue;
    *version = State::get().faults.no_driver ? 0 : CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaRuntimeGetVersion(int* version) {
  return enter("cudaRuntimeGetVersion", Needs::kNothing, [&] {
    if (version == nullptr) return cudaErrorInvalidValue;
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return enter("cudaDeviceCanAccessPeer", Needs::kDriver, [&] {
    if (can == nullptr) return cudaErrorInvalidValue;
    if (!exists(device) || !exists(peer)) return cudaErrorInvalidDevice;
    *can = device != peer ? 1 : 0;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return enter("cudaDeviceEnablePeerAccess", Needs::kContext, [&] {
    Device& device = current_device();
    if (!exists(peer) || peer == device.index) return cudaErrorInvalidDevice;
    if (flags != 0) return cudaErrorInvalidValue;
    return device.peers.insert(peer).second ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled;
  });
}

cudaError_t CUDARTAPI cudaDeviceDisablePeerAccess(int peer) {
  return enter("cudaDeviceDisablePeerAccess", Needs::kContext,
               [&] { return current_device().peers.erase(peer) == 1 ? cudaSuccess : cudaErrorPeerAccessNotEnabled; });
}

cudaError_t CUDARTAPI cudaGetLastError(void) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  ThreadState& thread = this_thread_state();
  const cudaError_t code = std::exchange(thread.last_error, cudaSuccess);
  const cudaError_t sticky = state.devices.empty() ? cudaSuccess : current_device().sticky;
  return sticky != cudaSuccess ? sticky : code;
}

cudaError_t CUDARTAPI cudaPeekAtLastError(void) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  const cudaError_t sticky = state.devices.empty() ? cudaSuccess : current_device().sticky;
  return sticky != cudaSuccess ? sticky : this_thread_state().last_error;
}

const char* CUDARTAPI cudaGetErrorName(cudaError_t code) {
  const ErrorText* const entry = text_of(code);
  return entry == nullptr ? "unrecognized error code" : entry->name;
}

const char* CUDARTAPI cudaGetErrorString(cudaError_t code) {
  const ErrorText* const entry = text_of(code);
  return entry == nullptr ? "unrecognized error code" : entry->text;
}

}  // extern "C"
