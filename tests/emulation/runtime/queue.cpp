// SPDX-License-Identifier: Apache-2.0
// Streams, and when their work runs.
#include <algorithm>
#include <stdexcept>

#include "state.hpp"

namespace ag::emu {
namespace {

bool pending(const Stream& stream) { return !stream.queue.empty(); }

void run_until(const StreamPointer& stream, std::uint64_t serial);

// A host function may take the host's locks: it runs without ours.
void run_host_function(Stream& stream, const Work& work) {
  State& state = State::get();
  stream.running = true;
  state.mutex.unlock();
  this_thread_state().in_host_function = true;
  work.run();
  this_thread_state().in_host_function = false;
  state.mutex.lock();
  stream.running = false;
  state.host_function_ended.notify_all();
}

void run_front(const StreamPointer& stream) {
  State& state = State::get();
  const std::uint64_t serial = stream->queue.front().serial;
  for (const auto& [other, until] : stream->queue.front().after) {
    if (other != stream) run_until(other, until);
  }
  while (stream->running) state.host_function_ended.wait(state.mutex);
  if (!pending(*stream) || stream->queue.front().serial != serial) return;  // another host thread has run it
  Device& device = state.device(stream->device);
  Work& work = stream->queue.front();
  if (work.calls_host) {
    run_host_function(*stream, work);
  } else if (device.sticky == cudaSuccess) {
    const cudaError_t code = work.run();
    if (code != cudaSuccess && device.sticky == cudaSuccess) {
      device.sticky = code;
      state.forgive_leaks = true;
    }
  }
  stream->done = serial;
  stream->queue.pop_front();
}

void run_until(const StreamPointer& stream, std::uint64_t serial) {
  while (pending(*stream) && stream->queue.front().serial <= serial) run_front(stream);
}

// Some of what is queued anywhere, by lot.
void run_some(Device& device) {
  State& state = State::get();
  const std::vector<StreamPointer> streams = device.streams;
  for (const StreamPointer& stream : streams) {
    while (pending(*stream) && state.random() % 2 == 0) run_front(stream);
  }
}

void forget_ended_streams(Device& device) {
  State& state = State::get();
  std::erase_if(device.streams, [&](const StreamPointer& stream) {
    if (stream == device.default_stream || pending(*stream) || stream->running) return false;
    return std::none_of(state.stream_handles.begin(), state.stream_handles.end(),
                        [&](const auto& entry) { return entry.second == stream; });
  });
}

void come_after_stream(Stream& stream, Work& work, const StreamPointer& other) {
  stream.clock.join(other->clock);
  if (pending(*other)) work.after.emplace_back(other, other->last);
}

}  // namespace

StreamPointer new_stream(int device, unsigned flags, int priority) {
  State& state = State::get();
  auto stream = std::make_shared<Stream>();
  stream->id = state.next_stream++;
  stream->device = device;
  stream->flags = flags;
  stream->priority = priority;
  stream->name = "stream " + std::to_string(stream->id);
  forget_ended_streams(state.device(device));
  state.device(device).streams.push_back(stream);
  return stream;
}

StreamPointer find_stream(cudaStream_t handle) {
  State& state = State::get();
  if (handle == nullptr || handle == cudaStreamLegacy) return current_device().default_stream;
  if (handle == cudaStreamPerThread) {
    thread_local std::map<int, std::weak_ptr<Stream>> own;
    Device& device = current_device();
    StreamPointer stream = own[device.index].lock();
    if (!stream) own[device.index] = stream = new_stream(device.index, 0, 0);
    return stream;
  }
  const auto found = state.stream_handles.find(handle);
  return found == state.stream_handles.end() ? nullptr : found->second;
}

Event* find_event(cudaEvent_t handle) {
  const auto& events = State::get().event_handles;
  const auto found = events.find(handle);
  return found == events.end() ? nullptr : found->second.get();
}

Work new_work(const StreamPointer& stream, const std::string& call) {
  State& state = State::get();
  Device& device = state.device(stream->device);
  Work work;
  work.serial = state.next_serial++;
  work.what = call + " on " + stream->name;
  stream->clock.join(state.host);
  if (stream == device.default_stream) {
    for (const StreamPointer& other : device.streams) {
      if (other != stream && other->waits_for_default()) come_after_stream(*stream, work, other);
    }
  } else if (stream->waits_for_default()) {
    come_after_stream(*stream, work, device.default_stream);
  }
  stream->clock.set(stream->id, work.serial);
  return work;
}

void come_after(const StreamPointer& stream, Work& work, const Event& event) {
  if (!event.stream) return;
  stream->clock.join(event.clock);
  if (event.stream->done < event.serial) work.after.emplace_back(event.stream, event.serial);
}

void submit(const StreamPointer& stream, Work work) {
  State& state = State::get();
  const std::uint64_t serial = work.serial;
  stream->last = serial;
  stream->queue.push_back(std::move(work));
  if (state.settings.order == Order::kImmediate) {
    run_until(stream, serial);
  } else if (state.settings.order == Order::kRandom) {
    run_some(state.device(stream->device));
  }
}

cudaError_t wait_for(const StreamPointer& stream, std::uint64_t serial) {
  State& state = State::get();
  Device& device = state.device(stream->device);
  ++device.counters.waits;
  if (state.settings.order == Order::kRandom) run_some(device);
  run_until(stream, serial);
  if (serial >= stream->last) state.host.join(stream->clock);
  return device.sticky;
}

cudaError_t wait_for_device(Device& device) {
  const std::vector<StreamPointer> streams = device.streams;
  for (const StreamPointer& stream : streams) {
    run_until(stream, stream->last);
    State::get().host.join(stream->clock);
  }
  ++device.counters.waits;
  return device.sticky;
}

cudaError_t ask(const StreamPointer& stream, std::uint64_t serial) {
  State& state = State::get();
  Device& device = state.device(stream->device);
  if (device.sticky != cudaSuccess) return device.sticky;
  if (stream->done < serial && pending(*stream)) {
    run_front(stream);
    return cudaErrorNotReady;
  }
  if (serial >= stream->last) state.host.join(stream->clock);
  return cudaSuccess;
}

cudaError_t queue_work(cudaStream_t handle, const std::string& what, const std::vector<Touch>& touches,
                       std::function<cudaError_t()> run) {
  return enter(what.c_str(), Needs::kContext, [&] {
    const StreamPointer stream = find_stream(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    std::vector<AllocatedPointer> blocks;
    for (const Touch& touch : touches) {
      AllocatedPointer block;
      const cudaError_t code = check_range(touch.data, touch.bytes, what + ": " + touch.what, &block);
      if (code != cudaSuccess) return code;
      if (!block && touch.bytes != 0) {
        report(what + ": " + touch.what + " is host memory");
        return cudaErrorInvalidValue;
      }
      if (block) blocks.push_back(block);
    }
    Work work = new_work(stream, what);
    for (const AllocatedPointer& block : blocks) note_use(block, *stream, work);
    work.run = [device = stream->device, run = std::move(run), touches] {
      const MemoryAccess access(device);
      const cudaError_t code = run();
      for (const Touch& touch : touches) {
        if (touch.writes && hooks() != nullptr) hooks()->memory_written(touch.data, touch.bytes);
      }
      return code;
    };
    submit(stream, std::move(work));
    return cudaSuccess;
  });
}

}  // namespace ag::emu
