// SPDX-License-Identifier: Apache-2.0
// Copies and fills. Asynchronous ones read and write host memory when their work runs, be it pinned or not: that is
// what hardware with pageable access does, and what code has to be ready for.
#include <cstring>

#include "state.hpp"

namespace ag::emu {
namespace {

struct Rows {  // `height` runs of `width` bytes, `pitch` apart
  std::size_t width = 0, height = 0;
  std::size_t to_pitch = 0, from_pitch = 0;
};

std::size_t span(std::size_t width, std::size_t height, std::size_t pitch) {
  return width == 0 || height == 0 ? 0 : (height - 1) * pitch + width;
}

const char* name_of(cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToHost: return "cudaMemcpyHostToHost";
    case cudaMemcpyHostToDevice: return "cudaMemcpyHostToDevice";
    case cudaMemcpyDeviceToHost: return "cudaMemcpyDeviceToHost";
    case cudaMemcpyDeviceToDevice: return "cudaMemcpyDeviceToDevice";
    case cudaMemcpyDefault: return "cudaMemcpyDefault";
  }
  return "an unknown kind";
}

bool may_be_host(const AllocatedPointer& block) { return !block || block->place != Place::kDevice; }
bool may_be_device(const AllocatedPointer& block) { return block && block->place != Place::kPinned; }

bool fits_kind(cudaMemcpyKind kind, const AllocatedPointer& to, const AllocatedPointer& from) {
  switch (kind) {
    case cudaMemcpyHostToHost: return may_be_host(to) && may_be_host(from);
    case cudaMemcpyHostToDevice: return may_be_device(to) && may_be_host(from);
    case cudaMemcpyDeviceToHost: return may_be_host(to) && may_be_device(from);
    case cudaMemcpyDeviceToDevice: return may_be_device(to) && may_be_device(from);
    case cudaMemcpyDefault: return true;
  }
  return false;
}

// A copy from device memory is as little written as its source.
void tell_checker(const void* to, const void* from, std::size_t bytes, const AllocatedPointer& target,
                  const AllocatedPointer& source) {
  if (hooks() == nullptr || !target) return;
  if (source && source->place == Place::kDevice) {
    hooks()->memory_copied(to, from, bytes);
  } else {
    hooks()->memory_written(to, bytes);
  }
}

cudaError_t queue_copy(const StreamPointer& stream, const char* call, void* to, const void* from, const Rows& rows,
                       cudaMemcpyKind kind) {
  if (!stream) return cudaErrorInvalidResourceHandle;
  const std::size_t to_bytes = span(rows.width, rows.height, rows.to_pitch);
  const std::size_t from_bytes = span(rows.width, rows.height, rows.from_pitch);
  if (rows.height > 1 && (rows.width > rows.to_pitch || rows.width > rows.from_pitch))
    return cudaErrorInvalidPitchValue;
  if (to_bytes != 0 && (to == nullptr || from == nullptr)) {
    return refuse(cudaErrorInvalidValue, std::string(call) + " with a null pointer");
  }
  AllocatedPointer target, source;
  const std::string name = call;
  if (const auto code = check_range(to, to_bytes, name + " to a destination", &target)) return code;
  if (const auto code = check_range(from, from_bytes, name + " from a source", &source)) return code;
  if (to_bytes != 0 && !fits_kind(kind, target, source)) {
    report(name + " with " + name_of(kind) + " to " + describe_memory(to) + " from " + describe_memory(from));
    return cudaErrorInvalidValue;
  }
  Work work = new_work(stream, name);
  note_use(target, *stream, work);
  note_use(source, *stream, work);
  work.run = [=] {
    RuntimeCounters& counters = State::get().device(stream->device).counters;
    ++counters.copies;
    const auto on_host = [](const AllocatedPointer& block) { return !block || block->place == Place::kPinned; };
    if (on_host(target) != on_host(source)) counters.host_bytes += static_cast<std::int64_t>(rows.width * rows.height);
    const RangeAccess writes(target), reads(source);
    for (std::size_t row = 0; row < rows.height; ++row) {
      std::memcpy(static_cast<std::byte*>(to) + row * rows.to_pitch,
                  static_cast<const std::byte*>(from) + row * rows.from_pitch, rows.width);
      tell_checker(static_cast<std::byte*>(to) + row * rows.to_pitch,
                   static_cast<const std::byte*>(from) + row * rows.from_pitch, rows.width, target, source);
    }
    return cudaSuccess;
  };
  submit(stream, std::move(work));
  return cudaSuccess;
}

cudaError_t queue_fill(const StreamPointer& stream, const char* call, void* to, int value, const Rows& rows) {
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (rows.height > 1 && rows.width > rows.to_pitch) return cudaErrorInvalidPitchValue;
  AllocatedPointer target;
  const std::size_t bytes = span(rows.width, rows.height, rows.to_pitch);
  const std::string name = call;
  if (const auto code = check_range(to, bytes, name, &target)) return code;
  if (bytes != 0 && !target) {
    report(name + " of host memory");
    return cudaErrorInvalidValue;
  }
  if (target && target->place == Place::kDevice && target->memory.device != stream->device) {
    report(name + " on " + stream->name + " of device " + std::to_string(stream->device) + " of " + describe(*target));
    return cudaErrorInvalidValue;
  }
  Work work = new_work(stream, name);
  note_use(target, *stream, work);
  work.run = [=] {
    const RangeAccess writes(target);
    for (std::size_t row = 0; row < rows.height; ++row) {
      std::byte* const begin = static_cast<std::byte*>(to) + row * rows.to_pitch;
      std::memset(begin, value, rows.width);
      tell_checker(begin, nullptr, rows.width, target, nullptr);
    }
    return cudaSuccess;
  };
  submit(stream, std::move(work));
  return cudaSuccess;
}

// A copy that the host waits for is one of the default stream.
cudaError_t copy_now(const char* call, void* to, const void* from, const Rows& rows, cudaMemcpyKind kind) {
  const StreamPointer stream = current_device().default_stream;
  const auto code = queue_copy(stream, call, to, from, rows, kind);
  return code != cudaSuccess ? code : wait_for(stream, stream->last);
}

Rows flat(std::size_t bytes) { return {bytes, 1, bytes, bytes}; }

}  // namespace
}  // namespace ag::emu

using namespace ag::emu;

extern "C" {

cudaError_t CUDARTAPI cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return enter("cudaMemcpy", Needs::kContext, [&] { return copy_now("cudaMemcpy", to, from, flat(bytes), kind); });
}

cudaError_t CUDARTAPI cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                      cudaStream_t stream) {
  return enter("cudaMemcpyAsync", Needs::kContext,
               [&] { return queue_copy(find_stream(stream), "cudaMemcpyAsync", to, from, flat(bytes), kind); });
}

cudaError_t CUDARTAPI cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                   size_t height, cudaMemcpyKind kind) {
  return enter("cudaMemcpy2D", Needs::kContext, [&] {
    return copy_now("cudaMemcpy2D", to, from, {width, height, to_pitch, from_pitch}, kind);
  });
}

cudaError_t CUDARTAPI cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                        size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return enter("cudaMemcpy2DAsync", Needs::kContext, [&] {
    return queue_copy(find_stream(stream), "cudaMemcpy2DAsync", to, from, {width, height, to_pitch, from_pitch}, kind);
  });
}

cudaError_t CUDARTAPI cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
  return enter("cudaMemcpyPeer", Needs::kContext,
               [&] { return copy_now("cudaMemcpyPeer", to, from, flat(bytes), cudaMemcpyDeviceToDevice); });
}

cudaError_t CUDARTAPI cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return enter("cudaMemcpyPeerAsync", Needs::kContext, [&] {
    return queue_copy(find_stream(stream), "cudaMemcpyPeerAsync", to, from, flat(bytes), cudaMemcpyDeviceToDevice);
  });
}

cudaError_t CUDARTAPI cudaMemset(void* to, int value, size_t bytes) {
  return enter("cudaMemset", Needs::kContext,
               [&] { return queue_fill(current_device().default_stream, "cudaMemset", to, value, flat(bytes)); });
}

cudaError_t CUDARTAPI cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return enter("cudaMemsetAsync", Needs::kContext,
               [&] { return queue_fill(find_stream(stream), "cudaMemsetAsync", to, value, flat(bytes)); });
}

cudaError_t CUDARTAPI cudaMemset2D(void* to, size_t pitch, int value, size_t width, size_t height) {
  return enter("cudaMemset2D", Needs::kContext, [&] {
    return queue_fill(current_device().default_stream, "cudaMemset2D", to, value, {width, height, pitch, pitch});
  });
}

cudaError_t CUDARTAPI cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height,
                                        cudaStream_t stream) {
  return enter("cudaMemset2DAsync", Needs::kContext, [&] {
    return queue_fill(find_stream(stream), "cudaMemset2DAsync", to, value, {width, height, pitch, pitch});
  });
}

}  // extern "C"
