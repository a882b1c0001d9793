// SPDX-License-Identifier: Apache-2.0
// What the emulated runtime knows. One mutex guards all of it, and is held while work runs: the process is one host
// thread with devices that take turns.
//
// Order is tracked by clocks. Work has a stream and a serial number; a clock says, for every stream, up to which number
// its owner comes after. A stream's clock grows by events, by the default stream's rule, and by what the host has
// waited for before it queued more. Memory is used rightly when its allocation is in the user's clock and all uses are
// in the clock of what frees it, whatever the order in which the emulation happens to run.
#pragma once

#include <cuda_runtime_api.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../emu.hpp"
#include "../runtime.hpp"

namespace ag::emu {

// Up to which serial number of each stream (by its id) something comes after.
class Clock {
 public:
  std::uint64_t at(std::size_t stream) const { return stream < seen_.size() ? seen_[stream] : 0; }
  void set(std::size_t stream, std::uint64_t serial) {
    if (stream >= seen_.size()) seen_.resize(stream + 1);
    if (serial > seen_[stream]) seen_[stream] = serial;
  }
  void join(const Clock& other) {
    for (std::size_t stream = 0; stream < other.seen_.size(); ++stream) set(stream, other.seen_[stream]);
  }

 private:
  std::vector<std::uint64_t> seen_;
};

struct Stream;
using StreamPointer = std::shared_ptr<Stream>;

struct Work {
  std::uint64_t serial = 0;
  std::string what;
  std::function<cudaError_t()> run;
  std::vector<std::pair<StreamPointer, std::uint64_t>> after;
  bool calls_host = false;  // runs without the mutex
};

struct Stream {
  std::size_t id = 0;
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  std::string name;  // "stream 3"
  std::deque<Work> queue;
  std::uint64_t last = 0;  // serial of the newest work
  std::uint64_t done = 0;  // serial of the newest finished work
  bool running = false;    // its front work runs without the mutex
  Clock clock;             // of the newest work

  bool waits_for_default() const { return (flags & cudaStreamNonBlocking) == 0; }
};

struct Event {
  int device = 0;
  unsigned flags = 0;
  StreamPointer stream;  // null until it is recorded
  std::uint64_t serial = 0;
  std::uint64_t seen = 0;  // the record that the host has asked for until it was done
  Clock clock;
  std::shared_ptr<double> time_ms = std::make_shared<double>(-1);  // of the newest record's execution
};

enum class Place { kDevice, kPinned, kManaged };

struct Allocated {
  Memory::Allocation memory;
  Place place = Place::kDevice;
  const char* call = "";     // "cudaMallocAsync"
  std::uint64_t number = 0;  // the n-th allocation of this process
  StreamPointer stream;      // of cudaMallocAsync; null: usable by all at once
  std::uint64_t serial = 0;  // of its allocation in that stream
  bool free_queued = false;
  std::string freed_by;                                               // "cudaFreeAsync on stream 3"
  std::map<std::size_t, std::pair<std::uint64_t, std::string>> uses;  // by stream: the newest, and what it was
};
using AllocatedPointer = std::shared_ptr<Allocated>;

struct MemoryPool {
  int device = 0;
  std::uint64_t release_threshold = 0;
  int reuse[3] = {1, 1, 1};  // of cudaMemPoolReuse*
  std::uint64_t used = 0, used_high = 0, reserved = 0, reserved_high = 0;
};

struct Device {
  int index = 0;
  cudaError_t sticky = cudaSuccess;
  StreamPointer default_stream;
  std::vector<StreamPointer> streams;  // destroyed ones stay while they have work
  std::set<int> peers;
  std::map<const void*, int> dynamic_shared;  // what cudaFuncSetAttribute allowed
  MemoryPool pool;
  RuntimeCounters counters;
};

class State {
 public:
  static State& get();  // never destroyed: static objects of other modules may free memory late

  std::recursive_mutex mutex;
  std::condition_variable_any host_function_ended;
  Settings settings;
  Faults faults;
  std::vector<std::unique_ptr<Device>> devices;
  std::map<CUstream_st*, StreamPointer> stream_handles;
  std::map<CUevent_st*, std::unique_ptr<Event>> event_handles;
  std::map<std::uintptr_t, AllocatedPointer> live;   // by address; a block whose free is queued is still here
  std::map<std::uintptr_t, AllocatedPointer> freed;  // by address; their memory is kept for a while
  std::deque<AllocatedPointer> freed_order;          // newest last
  std::size_t freed_bytes = 0;
  std::uint64_t memory_changes = 1;  // grows when a block comes or goes
  std::uint64_t next_serial = 1;
  std::uint64_t next_allocation = 1;
  std::size_t next_stream = 0;
  Clock host;  // what some host thread has waited for
  std::mt19937_64 random;
  std::vector<std::string> reports;
  bool forgive_leaks = false;  // a lost device keeps what it has

  void start(const Settings& settings);  // with empty devices
  Device& device(int index) { return *devices[static_cast<std::size_t>(index)]; }

 private:
  State() = default;
};

// Of this host thread.
struct ThreadState {
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  bool in_host_function = false;
};
ThreadState& this_thread_state();

// ---- entry.cpp: what every call does ----

enum class Needs {
  kNothing,  // works without a driver
  kDriver,   // a driver and a device
  kContext,  // and one that has not failed
};
// Runs `body` under the mutex unless the call is not possible; remembers a failure for cudaGetLastError.
cudaError_t enter(const char* call, Needs needs, const std::function<cudaError_t()>& body);
// The message of a failure whose code alone says too little, kept in last_error() and printed when
// ATTNGRAPH_EMU_VERBOSE is set.
cudaError_t refuse(cudaError_t code, const std::string& why);
Device& current_device();

// ---- memory.cpp ----

// The block that holds the address: live, or, when `freed` is given, else one freed not long ago.
AllocatedPointer block_at(const void* address, bool freed = false);
std::string describe(const Allocated& block);
// cudaErrorMemoryAllocation when the device's memory or the injected fault says so.
cudaError_t allocate(std::size_t bytes, Place place, const char* call, const StreamPointer& stream, void** out);
// Checks that it can be freed by this call and marks it; the memory goes by release().
cudaError_t begin_free(void* pointer, Place place, const char* call, AllocatedPointer* out);
void release(const AllocatedPointer& block);
void release_everything();
// The block that holds [data, data + bytes), or null for host memory that CUDA does not know. Refuses ranges that leave
// their block and memory that has been freed.
cudaError_t check_range(const void* data, std::size_t bytes, const std::string& what, AllocatedPointer* out);
// The stream's work uses the block: reports memory that another stream has allocated without an order between them.
void note_use(const AllocatedPointer& block, const Stream& stream, const Work& work);

// Between begin and end, code may touch the device's memory (ASan). Nothing in builds without ASan.
class MemoryAccess {
 public:
  explicit MemoryAccess(int device);
  ~MemoryAccess();
  MemoryAccess(const MemoryAccess&) = delete;
  MemoryAccess& operator=(const MemoryAccess&) = delete;

 private:
  int device_;
};
// The same for one block; null: nothing.
class RangeAccess {
 public:
  explicit RangeAccess(const AllocatedPointer& block);
  ~RangeAccess();
  RangeAccess(const RangeAccess&) = delete;
  RangeAccess& operator=(const RangeAccess&) = delete;

 private:
  const Allocated* block_;
};

// ---- queue.cpp ----

StreamPointer new_stream(int device, unsigned flags, int priority);
// The stream of a handle, the default streams' among them; null when the handle is none.
StreamPointer find_stream(cudaStream_t handle);
Event* find_event(cudaEvent_t handle);
// New work of the stream: it comes after what its stream, the default stream's rule and the host's waits say.
Work new_work(const StreamPointer& stream, const std::string& call);
void come_after(const StreamPointer& stream, Work& work, const Event& event);
// Queues it, and runs it when the order says so. Never fails: a failure of the work is the device's sticky error.
void submit(const StreamPointer& stream, Work work);
// The host waits until the work is done: the device's sticky error, or success.
cudaError_t wait_for(const StreamPointer& stream, std::uint64_t serial);
cudaError_t wait_for_device(Device& device);
// cudaSuccess or cudaErrorNotReady. A stream that is asked gets on.
cudaError_t ask(const StreamPointer& stream, std::uint64_t serial);

}  // namespace ag::emu
