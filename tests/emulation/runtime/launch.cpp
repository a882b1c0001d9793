// SPDX-License-Identifier: Apache-2.0
// Kernels as functions with attributes, and their launches.
#include <algorithm>
#include <cstring>

#include "device_limits.hpp"
#include "state.hpp"

namespace ag::emu {
namespace {

int capability() { return State::get().settings.compute_capability; }

cudaError_t check_image(const void* kernel, const char* call) {
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  if (!State::get().faults.no_kernel_image) return cudaSuccess;
  return refuse(cudaErrorNoKernelImageForDevice, std::string(call) + ": injected");
}

int dynamic_shared_limit(const Device& device, const void* kernel) {
  const auto found = device.dynamic_shared.find(kernel);
  return found == device.dynamic_shared.end() ? kSharedBytesPerBlock : found->second;
}

cudaError_t set_attribute(const void* kernel, cudaFuncAttribute name, int value) {
  if (const auto code = check_image(kernel, "cudaFuncSetAttribute")) return code;
  switch (name) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
      if (value < 0 || value > shared_bytes_opt_in(capability())) {
        return refuse(cudaErrorInvalidValue, "cudaFuncSetAttribute: " + std::to_string(value) +
                                                 " bytes of shared memory; this device has " +
                                                 std::to_string(shared_bytes_opt_in(capability())));
      }
      // 48 KiB need no leave.
      current_device().dynamic_shared[kernel] = std::max(value, kSharedBytesPerBlock);
      return cudaSuccess;
    case cudaFuncAttributePreferredSharedMemoryCarveout:
      return value < -1 || value > 100 ? cudaErrorInvalidValue : cudaSuccess;
    default: return cudaErrorInvalidValue;
  }
}

// As many as threads, shared memory and an assumed number of registers allow.
int blocks_per_processor(int threads, std::size_t dynamic_shared) {
  const DeviceLimits limits = limits_of(capability());
  const int whole_warps = (threads + 31) / 32 * 32;
  int blocks = std::min(limits.blocks_per_processor, limits.threads_per_processor / whole_warps);
  blocks = std::min(blocks, kRegistersPerProcessor / (kAssumedRegisters * whole_warps));
  const int reserved = capability() < 80 ? 0 : kReservedSharedBytes;
  const int shared = static_cast<int>(dynamic_shared) + reserved;
  if (shared > 0) blocks = std::min(blocks, limits.shared_bytes_per_processor / shared);
  return blocks;
}

// Pointers among the arguments' bytes: memory that is freed or another device's fails as an access to it would, for
// which a real device gives cudaErrorIllegalAddress.
cudaError_t check_arguments(const LaunchConfig& config, int device_index, std::vector<AllocatedPointer>& blocks) {
  const Device& device = State::get().device(device_index);
  for (std::size_t argument = 0; argument < config.arguments.size(); ++argument) {
    const std::span<const std::byte> bytes = config.arguments[argument];
    for (std::size_t at = 0; at + sizeof(void*) <= bytes.size(); at += sizeof(void*)) {
      const void* pointer = nullptr;
      std::memcpy(&pointer, bytes.data() + at, sizeof pointer);
      // A small int32 and the padding after it, which holds anything, are no pointer.
      if ((reinterpret_cast<std::uintptr_t>(pointer) & 0xFFFFFFFFu) < 4096) continue;
      const AllocatedPointer block = block_at(pointer, true);
      if (!block) continue;
      const std::string where =
          std::string(config.name) + ", argument " + std::to_string(argument) + " at byte " + std::to_string(at) + ": ";
      if (block->free_queued) {
        report(where + describe(*block));
        return cudaErrorIllegalAddress;
      }
      const int owner = block->memory.device;
      if (block->place == Place::kDevice && owner != device_index && device.peers.count(owner) == 0) {
        report(where + "device " + std::to_string(device_index) + " may not reach " + describe(*block));
        return cudaErrorIllegalAddress;
      }
      blocks.push_back(block);
    }
  }
  return cudaSuccess;
}

bool launch_fault_now(Faults& faults) { return faults.launch > 0 && --faults.launch == 0; }

cudaError_t queue_launch(LaunchConfig config, KernelBody body) {
  State& state = State::get();
  const StreamPointer stream = find_stream(config.stream);
  if (!stream) return refuse(cudaErrorInvalidResourceHandle, std::string(config.name) + ": no such stream");
  if (const auto code = check_image(config.kernel, config.name)) return code;
  if (stream->device != current_device().index) {
    return refuse(cudaErrorInvalidResourceHandle, std::string(config.name) + ": " + stream->name + " is of device " +
                                                      std::to_string(stream->device) + ", the current one is " +
                                                      std::to_string(current_device().index));
  }
  Device& device = state.device(stream->device);
  config.device = device.index;
  config.shared_limit_bytes = static_cast<std::size_t>(dynamic_shared_limit(device, config.kernel));
  const bool has_leave = device.dynamic_shared.count(config.kernel) > 0;
  config.compute_capability = capability();
  config.shared_total_bytes =
      static_cast<std::size_t>(has_leave ? shared_bytes_opt_in(capability()) : kSharedBytesPerBlock);
  if (const auto code = check_launch(config)) return code;
  cudaError_t failure = launch_fault_now(state.faults) ? state.faults.launch_error : cudaSuccess;
  std::vector<AllocatedPointer> blocks;
  if (failure == cudaSuccess) failure = check_arguments(config, device.index, blocks);
  config.arguments.clear();
  Work work = new_work(stream, config.name);
  for (const AllocatedPointer& block : blocks) note_use(block, *stream, work);
  ++device.counters.launches;
  work.run = [config, failure, body = std::move(body)] {
    if (failure != cudaSuccess) return failure;
    const MemoryAccess access(config.device);
    return run_grid(config, body);
  };
  submit(stream, std::move(work));
  return cudaSuccess;
}

}  // namespace

cudaError_t launch(LaunchConfig config, KernelBody body) {
  return enter(config.name, Needs::kContext, [&] { return queue_launch(std::move(config), std::move(body)); });
}

}  // namespace ag::emu

using namespace ag::emu;

extern "C" {

cudaError_t CUDARTAPI cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute name, int value) {
  return enter("cudaFuncSetAttribute", Needs::kContext, [&] { return set_attribute(kernel, name, value); });
}

cudaError_t CUDARTAPI cudaFuncSetCacheConfig(const void* kernel, cudaFuncCache) {
  return enter("cudaFuncSetCacheConfig", Needs::kContext,
               [&] { return check_image(kernel, "cudaFuncSetCacheConfig"); });
}

cudaError_t CUDARTAPI cudaFuncGetAttributes(cudaFuncAttributes* out, const void* kernel) {
  return enter("cudaFuncGetAttributes", Needs::kContext, [&] {
    if (out == nullptr) return cudaErrorInvalidValue;
    if (const auto code = check_image(kernel, "cudaFuncGetAttributes")) return code;
    *out = {};
    out->maxThreadsPerBlock = kThreadsPerBlock;
    out->numRegs = kAssumedRegisters;
    out->binaryVersion = out->ptxVersion = capability();
    out->maxDynamicSharedSizeBytes = dynamic_shared_limit(current_device(), kernel);
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads,
                                                                    size_t dynamic_shared) {
  return enter("cudaOccupancyMaxActiveBlocksPerMultiprocessor", Needs::kContext, [&] {
    if (blocks == nullptr || threads <= 0) return cudaErrorInvalidValue;
    if (const auto code = check_image(kernel, "cudaOccupancyMaxActiveBlocksPerMultiprocessor")) return code;
    const bool fits = threads <= kThreadsPerBlock &&
                      dynamic_shared <= static_cast<std::size_t>(dynamic_shared_limit(current_device(), kernel));
    *blocks = fits ? blocks_per_processor(threads, dynamic_shared) : 0;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* kernel,
                                                                             int threads, size_t dynamic_shared,
                                                                             unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, dynamic_shared);
}

}  // extern "C"
