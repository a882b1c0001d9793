// SPDX-License-Identifier: Apache-2.0
// Allocation, and the default memory pools.
#include <algorithm>

#include "state.hpp"

namespace ag::emu {
namespace {

cudaError_t free_in_order(void* pointer, cudaStream_t handle, const char* call) {
  const StreamPointer stream = find_stream(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  AllocatedPointer block;
  const cudaError_t code = begin_free(pointer, Place::kDevice, call, &block);
  if (code != cudaSuccess) return code;
  Work work = new_work(stream, call);
  block->freed_by = work.what;
  for (const auto& [id, use] : block->uses) {
    if (stream->clock.at(id) >= use.first) continue;
    report(work.what + " frees, without waiting for " + use.second + ", " + describe(*block));
  }
  work.run = [block] {
    release(block);
    return cudaSuccess;
  };
  submit(stream, std::move(work));
  return cudaSuccess;
}

// cudaFree and cudaFreeHost wait for the device.
cudaError_t free_now(void* pointer, Place place, const char* call) {
  if (pointer == nullptr) return cudaSuccess;
  AllocatedPointer block;
  const cudaError_t code = begin_free(pointer, place, call, &block);
  if (code != cudaSuccess) return code;
  block->freed_by = call;
  for (const auto& device : State::get().devices) {
    if (device->sticky == cudaSuccess) wait_for_device(*device);
  }
  release(block);
  return cudaSuccess;
}

cudaError_t allocate_in_order(void** out, std::size_t bytes, cudaStream_t handle, const char* call) {
  if (out == nullptr || bytes == 0) return refuse(cudaErrorInvalidValue, std::string(call) + " of nothing");
  const StreamPointer stream = find_stream(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  return allocate(bytes, Place::kDevice, call, stream, out);
}

cudaError_t allocate_now(void** out, std::size_t bytes, Place place, const char* call) {
  if (out == nullptr) return cudaErrorInvalidValue;
  *out = nullptr;
  return bytes == 0 ? cudaSuccess : allocate(bytes, place, call, nullptr, out);
}

MemoryPool* find_pool(cudaMemPool_t handle) {
  for (const auto& device : State::get().devices) {
    if (reinterpret_cast<cudaMemPool_t>(&device->pool) == handle) return &device->pool;
  }
  return nullptr;
}

cudaError_t pool_of(cudaMemPool_t* out, int index) {
  State& state = State::get();
  if (out == nullptr) return cudaErrorInvalidValue;
  if (index < 0 || index >= state.settings.devices) return cudaErrorInvalidDevice;
  *out = reinterpret_cast<cudaMemPool_t>(&state.device(index).pool);
  return cudaSuccess;
}

}  // namespace
}  // namespace ag::emu

using namespace ag::emu;

extern "C" {

cudaError_t CUDARTAPI cudaMalloc(void** out, size_t bytes) {
  return enter("cudaMalloc", Needs::kContext, [&] { return allocate_now(out, bytes, Place::kDevice, "cudaMalloc"); });
}

cudaError_t CUDARTAPI cudaMallocManaged(void** out, size_t bytes, unsigned) {
  return enter("cudaMallocManaged", Needs::kContext, [&] {
    if (bytes == 0) return cudaErrorInvalidValue;
    return allocate_now(out, bytes, Place::kManaged, "cudaMallocManaged");
  });
}

cudaError_t CUDARTAPI cudaMallocHost(void** out, size_t bytes) {
  return enter("cudaMallocHost", Needs::kContext,
               [&] { return allocate_now(out, bytes, Place::kPinned, "cudaMallocHost"); });
}

cudaError_t CUDARTAPI cudaHostAlloc(void** out, size_t bytes, unsigned) {
  return enter("cudaHostAlloc", Needs::kContext,
               [&] { return allocate_now(out, bytes, Place::kPinned, "cudaHostAlloc"); });
}

cudaError_t CUDARTAPI cudaFree(void* pointer) {
  return enter("cudaFree", Needs::kContext, [&] { return free_now(pointer, Place::kDevice, "cudaFree"); });
}

cudaError_t CUDARTAPI cudaFreeHost(void* pointer) {
  return enter("cudaFreeHost", Needs::kContext, [&] { return free_now(pointer, Place::kPinned, "cudaFreeHost"); });
}

cudaError_t CUDARTAPI cudaMallocAsync(void** out, size_t bytes, cudaStream_t stream) {
  return enter("cudaMallocAsync", Needs::kContext,
               [&] { return allocate_in_order(out, bytes, stream, "cudaMallocAsync"); });
}

cudaError_t CUDARTAPI cudaMallocFromPoolAsync(void** out, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  return enter("cudaMallocFromPoolAsync", Needs::kContext, [&] {
    const MemoryPool* const found = find_pool(pool);
    const StreamPointer on = find_stream(stream);
    if (found == nullptr || !on || found->device != on->device) return cudaErrorInvalidValue;
    return allocate_in_order(out, bytes, stream, "cudaMallocFromPoolAsync");
  });
}

cudaError_t CUDARTAPI cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return enter("cudaFreeAsync", Needs::kContext, [&] { return free_in_order(pointer, stream, "cudaFreeAsync"); });
}

cudaError_t CUDARTAPI cudaMemGetInfo(size_t* free, size_t* total) {
  return enter("cudaMemGetInfo", Needs::kContext, [&] {
    const std::size_t all = State::get().settings.memory_bytes;
    if (total != nullptr) *total = all;
    if (free != nullptr) *free = all - std::min(all, current_device().counters.device_bytes);
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return enter("cudaDeviceGetDefaultMemPool", Needs::kDriver, [&] { return pool_of(pool, device); });
}

cudaError_t CUDARTAPI cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return enter("cudaDeviceGetMemPool", Needs::kDriver, [&] { return pool_of(pool, device); });
}

cudaError_t CUDARTAPI cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return enter("cudaMemPoolSetAttribute", Needs::kContext, [&] {
    MemoryPool* const p = find_pool(pool);
    if (p == nullptr || value == nullptr) return cudaErrorInvalidValue;
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold: p->release_threshold = *static_cast<std::uint64_t*>(value); break;
      case cudaMemPoolReuseFollowEventDependencies: p->reuse[0] = *static_cast<int*>(value); break;
      case cudaMemPoolReuseAllowOpportunistic: p->reuse[1] = *static_cast<int*>(value); break;
      case cudaMemPoolReuseAllowInternalDependencies: p->reuse[2] = *static_cast<int*>(value); break;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh: {
        if (*static_cast<std::uint64_t*>(value) != 0) return cudaErrorInvalidValue;  // can be reset only
        RuntimeCounters& c = State::get().device(p->device).counters;
        c.device_bytes_peak = c.device_bytes;
        break;
      }
      default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

// Reserved is what is in use: the emulated pool returns memory at once.
cudaError_t CUDARTAPI cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return enter("cudaMemPoolGetAttribute", Needs::kContext, [&] {
    const MemoryPool* const p = find_pool(pool);
    if (p == nullptr || value == nullptr) return cudaErrorInvalidValue;
    const RuntimeCounters& c = State::get().device(p->device).counters;
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold: *static_cast<std::uint64_t*>(value) = p->release_threshold; break;
      case cudaMemPoolReuseFollowEventDependencies: *static_cast<int*>(value) = p->reuse[0]; break;
      case cudaMemPoolReuseAllowOpportunistic: *static_cast<int*>(value) = p->reuse[1]; break;
      case cudaMemPoolReuseAllowInternalDependencies: *static_cast<int*>(value) = p->reuse[2]; break;
      case cudaMemPoolAttrReservedMemCurrent:
      case cudaMemPoolAttrUsedMemCurrent: *static_cast<std::uint64_t*>(value) = c.device_bytes; break;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh: *static_cast<std::uint64_t*>(value) = c.device_bytes_peak; break;
      default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaMemPoolTrimTo(cudaMemPool_t pool, size_t) {
  return enter("cudaMemPoolTrimTo", Needs::kContext,
               [&] { return find_pool(pool) == nullptr ? cudaErrorInvalidValue : cudaSuccess; });
}

cudaError_t CUDARTAPI cudaPointerGetAttributes(cudaPointerAttributes* out, const void* pointer) {
  return enter("cudaPointerGetAttributes", Needs::kDriver, [&] {
    if (out == nullptr) return cudaErrorInvalidValue;
    *out = {};
    const AllocatedPointer block = block_at(pointer);
    out->device = block ? block->memory.device : -2;  // what CUDA gives for memory it does not know
    void* const address = const_cast<void*>(pointer);
    if (!block) {
      out->type = cudaMemoryTypeUnregistered;
      out->hostPointer = address;
      return cudaSuccess;
    }
    out->type = block->place == Place::kDevice   ? cudaMemoryTypeDevice
                : block->place == Place::kPinned ? cudaMemoryTypeHost
                                                 : cudaMemoryTypeManaged;
    out->devicePointer = address;
    out->hostPointer = block->place == Place::kDevice ? nullptr : address;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaHostGetDevicePointer(void** out, void* host, unsigned) {
  return enter("cudaHostGetDevicePointer", Needs::kContext, [&] {
    const AllocatedPointer block = block_at(host);
    if (out == nullptr || !block || block->place == Place::kDevice) return cudaErrorInvalidValue;
    *out = host;
    return cudaSuccess;
  });
}

}  // extern "C"
