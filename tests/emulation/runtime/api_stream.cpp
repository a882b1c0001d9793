// SPDX-License-Identifier: Apache-2.0
// Streams, events and waiting.
#include <chrono>

#include "state.hpp"

// The handles: only their addresses mean something.
struct CUstream_st {};
struct CUevent_st {};

namespace ag::emu {
namespace {

constexpr int kGreatestPriority = -5;  // and the least is 0, as on current devices

cudaError_t create_stream(cudaStream_t* out, unsigned flags, int priority) {
  if (out == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0) return cudaErrorInvalidValue;
  priority = std::min(0, std::max(kGreatestPriority, priority));
  auto handle = std::make_unique<CUstream_st>();
  State::get().stream_handles.emplace(handle.get(), new_stream(current_device().index, flags, priority));
  *out = handle.release();
  return cudaSuccess;
}

cudaError_t destroy_stream(cudaStream_t handle) {
  State& state = State::get();
  const auto found = state.stream_handles.find(handle);
  if (found == state.stream_handles.end()) {
    report("cudaStreamDestroy of what is no stream, or no longer");
    return cudaErrorInvalidResourceHandle;
  }
  state.stream_handles.erase(found);  // work that is queued is done all the same
  delete handle;
  return cudaSuccess;
}

cudaError_t create_event(cudaEvent_t* out, unsigned flags) {
  constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming | cudaEventInterprocess;
  if (out == nullptr || (flags & ~kKnown) != 0) return cudaErrorInvalidValue;
  auto handle = std::make_unique<CUevent_st>();
  auto event = std::make_unique<Event>();
  event->device = current_device().index;
  event->flags = flags;
  State::get().event_handles.emplace(handle.get(), std::move(event));
  *out = handle.release();
  return cudaSuccess;
}

cudaError_t destroy_event(cudaEvent_t handle) {
  if (State::get().event_handles.erase(handle) == 0) {
    report("cudaEventDestroy of what is no event, or no longer");
    return cudaErrorInvalidResourceHandle;
  }
  delete handle;
  return cudaSuccess;
}

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

cudaError_t record(cudaEvent_t handle, cudaStream_t on) {
  Event* const event = find_event(handle);
  const StreamPointer stream = find_stream(on);
  if (event == nullptr || !stream) return cudaErrorInvalidResourceHandle;
  if (event->device != stream->device)
    return refuse(cudaErrorInvalidResourceHandle, "event and stream differ in device");
  Work work = new_work(stream, "cudaEventRecord");
  event->stream = stream;
  event->serial = work.serial;
  event->clock = stream->clock;
  event->time_ms = std::make_shared<double>(-1);
  work.run = [time = event->time_ms] {
    *time = now_ms();
    return cudaSuccess;
  };
  submit(stream, std::move(work));
  return cudaSuccess;
}

cudaError_t wait_event(cudaStream_t waiter, cudaEvent_t handle) {
  const Event* const event = find_event(handle);
  const StreamPointer stream = find_stream(waiter);
  if (event == nullptr || !stream) return cudaErrorInvalidResourceHandle;
  Work work = new_work(stream, "cudaStreamWaitEvent");
  come_after(stream, work, *event);
  work.run = [] { return cudaSuccess; };
  submit(stream, std::move(work));
  return cudaSuccess;
}

cudaError_t elapsed(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  const Event* const from = find_event(begin);
  const Event* const to = find_event(end);
  if (ms == nullptr) return cudaErrorInvalidValue;
  for (const Event* event : {from, to}) {
    if (event == nullptr || !event->stream || (event->flags & cudaEventDisableTiming) != 0) {
      return cudaErrorInvalidResourceHandle;
    }
    if (*event->time_ms < 0) return cudaErrorNotReady;
  }
  *ms = static_cast<float>(*to->time_ms - *from->time_ms);
  return cudaSuccess;
}

// Calls with a stream that has to exist.
cudaError_t with_stream(const char* call, cudaStream_t handle,
                        const std::function<cudaError_t(const StreamPointer&)>& body) {
  return enter(call, Needs::kContext, [&] {
    const StreamPointer stream = find_stream(handle);
    return stream ? body(stream) : cudaErrorInvalidResourceHandle;
  });
}

}  // namespace
}  // namespace ag::emu

using namespace ag::emu;

extern "C" {

cudaError_t CUDARTAPI cudaStreamCreate(cudaStream_t* out) {
  return enter("cudaStreamCreate", Needs::kContext, [&] { return create_stream(out, cudaStreamDefault, 0); });
}

cudaError_t CUDARTAPI cudaStreamCreateWithFlags(cudaStream_t* out, unsigned flags) {
  return enter("cudaStreamCreateWithFlags", Needs::kContext, [&] { return create_stream(out, flags, 0); });
}

cudaError_t CUDARTAPI cudaStreamCreateWithPriority(cudaStream_t* out, unsigned flags, int priority) {
  return enter("cudaStreamCreateWithPriority", Needs::kContext, [&] { return create_stream(out, flags, priority); });
}

cudaError_t CUDARTAPI cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return enter("cudaDeviceGetStreamPriorityRange", Needs::kContext, [&] {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = kGreatestPriority;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t stream) {
  return enter("cudaStreamDestroy", Needs::kContext, [&] { return destroy_stream(stream); });
}

cudaError_t CUDARTAPI cudaStreamSynchronize(cudaStream_t handle) {
  return with_stream("cudaStreamSynchronize", handle,
                     [](const StreamPointer& stream) { return wait_for(stream, stream->last); });
}

cudaError_t CUDARTAPI cudaStreamQuery(cudaStream_t handle) {
  return with_stream("cudaStreamQuery", handle, [](const StreamPointer& stream) { return ask(stream, stream->last); });
}

cudaError_t CUDARTAPI cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
  return with_stream("cudaStreamGetFlags", handle, [&](const StreamPointer& stream) {
    *flags = stream->flags;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return with_stream("cudaStreamGetPriority", handle, [&](const StreamPointer& stream) {
    *priority = stream->priority;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaStreamGetDevice(cudaStream_t handle, int* device) {
  return with_stream("cudaStreamGetDevice", handle, [&](const StreamPointer& stream) {
    *device = stream->device;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return with_stream("cudaStreamIsCapturing", handle, [&](const StreamPointer&) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  return enter("cudaStreamWaitEvent", Needs::kContext,
               [&] { return flags != 0 ? cudaErrorInvalidValue : wait_event(stream, event); });
}

cudaError_t CUDARTAPI cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return with_stream("cudaLaunchHostFunc", handle, [&](const StreamPointer& stream) {
    if (function == nullptr) return cudaErrorInvalidValue;
    Work work = new_work(stream, "cudaLaunchHostFunc");
    work.calls_host = true;
    work.run = [=] {
      function(data);
      return cudaSuccess;
    };
    submit(stream, std::move(work));
    return cudaSuccess;
  });
}

cudaError_t CUDARTAPI cudaDeviceSynchronize(void) {
  return enter("cudaDeviceSynchronize", Needs::kContext, [] { return wait_for_device(current_device()); });
}

cudaError_t CUDARTAPI cudaEventCreate(cudaEvent_t* out) {
  return enter("cudaEventCreate", Needs::kContext, [&] { return create_event(out, cudaEventDefault); });
}

cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t* out, unsigned flags) {
  return enter("cudaEventCreateWithFlags", Needs::kContext, [&] { return create_event(out, flags); });
}

cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event) {
  return enter("cudaEventDestroy", Needs::kContext, [&] { return destroy_event(event); });
}

cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return enter("cudaEventRecord", Needs::kContext, [&] { return record(event, stream); });
}

cudaError_t CUDARTAPI cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  return enter("cudaEventRecordWithFlags", Needs::kContext,
               [&] { return flags != 0 ? cudaErrorInvalidValue : record(event, stream); });
}

cudaError_t CUDARTAPI cudaEventSynchronize(cudaEvent_t handle) {
  return enter("cudaEventSynchronize", Needs::kContext, [&] {
    const Event* const event = find_event(handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (!event->stream) return cudaSuccess;
    State::get().host.join(event->clock);
    return wait_for(event->stream, event->serial);
  });
}

cudaError_t CUDARTAPI cudaEventQuery(cudaEvent_t handle) {
  return enter("cudaEventQuery", Needs::kContext, [&] {
    Event* const event = find_event(handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    if (!event->stream) return cudaSuccess;
    const cudaError_t code = ask(event->stream, event->serial);
    if (code != cudaSuccess) return code;
    State::get().host.join(event->clock);
    if (event->seen != event->serial) ++State::get().device(event->device).counters.waits;
    event->seen = event->serial;
    return code;
  });
}

cudaError_t CUDARTAPI cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  return enter("cudaEventElapsedTime", Needs::kContext, [&] { return elapsed(ms, begin, end); });
}

}  // extern "C"
