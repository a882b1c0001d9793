// SPDX-License-Identifier: Apache-2.0
// The door of every call, and what belongs to the process: settings, faults, reports.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "state.hpp"

namespace ag::emu {
namespace {

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

[[noreturn]] void bad_variable(const char* name, const std::string& value, const char* expected) {
  throw std::invalid_argument(std::string(name) + "='" + value + "': expected " + expected);
}

std::uint64_t number(const char* name, const std::string& text) {
  std::size_t used = 0;
  std::uint64_t value = 0;
  try {
    value = std::stoull(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || text[0] == '-') bad_variable(name, text, "a number");
  return value;
}

std::uint64_t number_of(const char* name, std::uint64_t otherwise) {
  const std::string text = environment(name);
  return text.empty() ? otherwise : number(name, text);
}

void report_leaks(State& state) {
  for (const auto& [address, block] : state.live) {
    if (!block->free_queued) report("not freed at exit: " + describe(*block));
  }
}

// After the static objects of every module that uses this one.
__attribute__((destructor)) void judge_process() {
  State& state = State::get();
  if (!state.forgive_leaks) report_leaks(state);
  if (state.reports.empty()) return;
  std::fprintf(stderr, "emulation: %zu reports that no test has taken\n", state.reports.size());
  std::fflush(nullptr);
  _exit(1);
}

}  // namespace

Settings settings_from_environment() {
  Settings s;
  s.devices = static_cast<int>(number_of("ATTNGRAPH_EMU_DEVICES", 1));
  s.multiprocessors = static_cast<int>(number_of("ATTNGRAPH_EMU_MULTIPROCESSORS", 4));
  s.memory_bytes = number_of("ATTNGRAPH_EMU_MEMORY", s.memory_bytes);
  const std::string device = environment("ATTNGRAPH_EMU_DEVICE");
  if (!device.empty()) {
    const std::size_t dot = device.find('.');
    if (dot == std::string::npos) bad_variable("ATTNGRAPH_EMU_DEVICE", device, "a compute capability such as 8.0");
    const auto major = number("ATTNGRAPH_EMU_DEVICE", device.substr(0, dot));
    const auto minor = number("ATTNGRAPH_EMU_DEVICE", device.substr(dot + 1));
    s.compute_capability = static_cast<int>(10 * major + minor);
  }
  const std::string order = environment("ATTNGRAPH_EMU_DEFER");
  if (order == "1") {
    s.order = Order::kDeferred;
  } else if (order.starts_with("random")) {
    s.order = Order::kRandom;
    if (order.size() > 7) s.seed = number("ATTNGRAPH_EMU_DEFER", order.substr(7));
  } else if (!order.empty() && order != "0") {
    bad_variable("ATTNGRAPH_EMU_DEFER", order, "0, 1 or random:SEED");
  }
  return s;
}

Faults faults_from_environment() {
  Faults faults;
  const char* const name = "ATTNGRAPH_EMU_FAULT";
  std::string rest = environment(name);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string item = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    const std::size_t equals = item.find('=');
    const std::string key = item.substr(0, equals);
    const auto count = [&] {
      if (equals == std::string::npos) bad_variable(name, item, "NAME=n");
      return static_cast<std::int64_t>(number(name, item.substr(equals + 1)));
    };
    if (key == "no-driver") {
      faults.no_driver = true;
    } else if (key == "no-device") {
      faults.no_device = true;
    } else if (key == "no-kernel-image") {
      faults.no_kernel_image = true;
    } else if (key == "cublas-create") {
      faults.cublas_create = true;
    } else if (key == "device-allocation") {
      faults.device_allocation = count();
    } else if (key == "host-allocation") {
      faults.host_allocation = count();
    } else if (key == "launch") {
      faults.launch = count();
    } else {
      bad_variable(name, item,
                   "no-driver, no-device, no-kernel-image, cublas-create, device-allocation=n, host-allocation=n or "
                   "launch=n");
    }
  }
  return faults;
}

State& State::get() {
  static State* const state = new State;
  static std::once_flag started;
  thread_local bool starting = false;  // start() comes here again
  if (!starting) {
    std::call_once(started, [] {
      starting = true;
      state->start(settings_from_environment());
      state->faults = faults_from_environment();
      starting = false;
    });
  }
  return *state;
}

void State::start(const Settings& wanted) {
  settings = wanted;
  random.seed(wanted.seed);
  for (const auto& device : devices) {
    for (const StreamPointer& stream : device->streams) stream->queue.clear();
  }
  devices.clear();
  stream_handles.clear();
  event_handles.clear();
  if (!live.empty() || !freed.empty()) release_everything();  // not while State::get() makes the first one
  host = Clock();
  reports.clear();
  faults = Faults();
  forgive_leaks = false;
  for (int index = 0; index < wanted.devices; ++index) {
    devices.push_back(std::make_unique<Device>());
    Device& device = *devices.back();
    device.index = index;
    device.pool.device = index;
    auto stream = std::make_shared<Stream>();
    stream->id = next_stream++;
    stream->device = index;
    stream->name = "the default stream of device " + std::to_string(index);
    device.default_stream = stream;
    device.streams.push_back(stream);
  }
}

ThreadState& this_thread_state() {
  thread_local ThreadState state;
  return state;
}

Device& current_device() {
  State& state = State::get();
  ThreadState& thread = this_thread_state();
  if (thread.device >= state.settings.devices) thread.device = 0;  // reset_runtime() has left fewer
  return state.device(thread.device);
}

cudaError_t enter(const char* call, Needs needs, const std::function<cudaError_t()>& body) {
  State& state = State::get();
  ThreadState& thread = this_thread_state();
  const std::lock_guard lock(state.mutex);
  cudaError_t code = cudaSuccess;
  if (thread.in_host_function) {
    report(std::string(call) + " inside of a host function, which must not call CUDA");
    code = cudaErrorNotPermitted;
  } else if (in_kernel()) {
    code = refuse(cudaErrorNotSupported, std::string(call) + " inside of a kernel");
  } else if (needs != Needs::kNothing && state.faults.no_driver) {
    code = cudaErrorInsufficientDriver;
  } else if (needs != Needs::kNothing && (state.faults.no_device || state.settings.devices == 0)) {
    code = cudaErrorNoDevice;
  } else if (needs == Needs::kContext) {
    code = current_device().sticky;
  }
  if (code == cudaSuccess) code = body();
  if (code != cudaSuccess && code != cudaErrorNotReady) thread.last_error = code;
  return code;
}

cudaError_t refuse(cudaError_t code, const std::string& why) {
  record_error(why);
  if (std::getenv("ATTNGRAPH_EMU_VERBOSE") != nullptr) {
    std::fprintf(stderr, "emulation: %s: %s\n", cudaGetErrorName(code), why.c_str());
  }
  return code;
}

void report(const std::string& text) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  std::fprintf(stderr, "emulation: %s\n", text.c_str());
  state.reports.push_back(text);
}

std::vector<std::string> take_reports() {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  return std::exchange(state.reports, {});
}

void reset_runtime(const Settings& settings) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  state.start(settings);
  this_thread_state() = ThreadState();
}

Settings settings() {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  return state.settings;
}

void revive_devices() {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  for (const auto& device : state.devices) device->sticky = cudaSuccess;
  this_thread_state().last_error = cudaSuccess;
  state.forgive_leaks = false;
}

void inject(const Faults& faults) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  state.faults = faults;
}

bool cublas_create_fails() {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  return state.faults.cublas_create;
}

RuntimeCounters runtime_counters(int device) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  return state.device(device).counters;
}

void reset_peak(int device) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  RuntimeCounters& counters = state.device(device).counters;
  counters.device_bytes_peak = counters.device_bytes;
}

}  // namespace ag::emu
