// SPDX-License-Identifier: Apache-2.0
// The map of allocations, and what may be done with an address.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "state.hpp"

// There in a program built with AddressSanitizer, null in others.
extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(const volatile void* address, std::size_t bytes);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* address, std::size_t bytes);
}

namespace ag::emu {
namespace {

constexpr std::size_t kAlignment = 256;             // of cudaMalloc
constexpr std::size_t kKeepFreedBytes = 64u << 20;  // so that late uses are still known
constexpr unsigned char kCanary = 0xC5;

void poison(const void* address, std::size_t bytes) {
  if (__asan_poison_memory_region != nullptr) __asan_poison_memory_region(address, bytes);
}

void unpoison(const void* address, std::size_t bytes) {
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(address, bytes);
}

// Under ASan nothing follows a block, so that its red zone does; else bytes that a write past the end changes.
const std::size_t kCanaryBytes = __asan_poison_memory_region != nullptr ? 0 : 64;

std::uintptr_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

bool holds(const Allocated& block, const void* address) {
  const std::uintptr_t offset = number(address) - number(block.memory.begin);
  return offset < block.memory.bytes;
}

void check_canary(const Allocated& block) {
  const auto* const end = reinterpret_cast<const unsigned char*>(block.memory.begin) + block.memory.bytes;
  for (std::size_t i = 0; i < kCanaryBytes; ++i) {
    if (end[i] == kCanary) continue;
    report("something wrote " + std::to_string(i) + " bytes past the end of " + describe(block));
    return;
  }
}

void forget_oldest(State& state) {
  Allocated& oldest = *state.freed_order.front();
  state.freed_bytes -= oldest.memory.bytes;
  unpoison(oldest.memory.begin, oldest.memory.bytes);
  std::free(oldest.memory.begin);
  state.freed.erase(number(oldest.memory.begin));
  state.freed_order.pop_front();
}

void count(Device& device, std::size_t bytes) {
  RuntimeCounters& c = device.counters;
  ++c.device_allocations;
  c.device_bytes += bytes;
  c.device_bytes_peak = std::max(c.device_bytes_peak, c.device_bytes);
}

// Every count of a fault is of attempts.
bool fault_now(std::int64_t& countdown) { return countdown > 0 && --countdown == 0; }

bool fits(Device& device, std::size_t bytes) {
  const std::size_t limit = State::get().settings.memory_bytes;
  return bytes <= limit && device.counters.device_bytes <= limit - bytes;
}

}  // namespace

std::string describe(const Allocated& block) {
  const char* const where = block.place == Place::kDevice ? " on device " : " of the host, device ";
  std::string text = "the " + std::to_string(block.memory.bytes) + " bytes of " + block.call + where +
                     std::to_string(block.memory.device) + " (allocation " + std::to_string(block.number) + ")";
  if (block.free_queued) text += ", freed by " + block.freed_by;
  return text;
}

AllocatedPointer block_at(const void* address, bool freed) {
  State& state = State::get();
  // Memory of a freed block is nobody else's until it is forgotten: no two blocks overlap.
  const auto among = [&](const std::map<std::uintptr_t, AllocatedPointer>& blocks) -> AllocatedPointer {
    auto next = blocks.upper_bound(number(address));
    if (next == blocks.begin()) return nullptr;
    --next;
    return holds(*next->second, address) ? next->second : nullptr;
  };
  const AllocatedPointer block = among(state.live);
  return block || !freed ? block : among(state.freed);
}

std::string describe_memory(const void* address) {
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  const AllocatedPointer block = block_at(address, true);
  if (!block) return "memory that CUDA has not allocated";
  return "byte " + std::to_string(number(address) - number(block->memory.begin)) + " of " + describe(*block);
}

// Kernels ask for the same block again and again.
const Memory::Allocation* Memory::find(const void* p) {
  thread_local std::uint64_t changes = 0;
  thread_local Allocation last;
  thread_local const Allocation* found = nullptr;
  State& state = State::get();
  const std::lock_guard lock(state.mutex);
  const std::uintptr_t offset = number(p) - number(last.begin);
  if (changes == state.memory_changes && found != nullptr && offset < last.bytes) return found;
  const AllocatedPointer block = block_at(p);
  if (!block) return nullptr;
  changes = state.memory_changes;
  last = block->memory;
  return found = &block->memory;
}

cudaError_t allocate(std::size_t bytes, Place place, const char* call, const StreamPointer& stream, void** out) {
  State& state = State::get();
  Device& device = stream ? state.device(stream->device) : current_device();
  const bool on_device = place != Place::kPinned;
  if (fault_now(on_device ? state.faults.device_allocation : state.faults.host_allocation)) {
    return refuse(cudaErrorMemoryAllocation, std::string(call) + ": injected");
  }
  if (on_device && !fits(device, bytes)) {
    wait_for_device(device);  // queued frees may make room, as CUDA's pools do
    if (!fits(device, bytes)) {
      return refuse(cudaErrorMemoryAllocation, std::string(call) + " of " + std::to_string(bytes) + " bytes; " +
                                                   std::to_string(device.counters.device_bytes) + " of " +
                                                   std::to_string(state.settings.memory_bytes) + " are in use");
    }
  }
  void* p = nullptr;
  if (posix_memalign(&p, kAlignment, bytes + kCanaryBytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(p, 0xFF, bytes);  // NaN, and -1: what nobody has written shows
  if (kCanaryBytes != 0) std::memset(static_cast<std::byte*>(p) + bytes, kCanary, kCanaryBytes);
  auto block = std::make_shared<Allocated>();
  block->memory = {static_cast<std::byte*>(p), bytes, device.index, place != Place::kDevice};
  block->place = place;
  block->call = call;
  block->number = state.next_allocation++;
  if (stream) {
    Work work = new_work(stream, call);
    block->stream = stream;
    block->serial = work.serial;
    work.run = [] { return cudaSuccess; };
    submit(stream, std::move(work));
  }
  if (place == Place::kDevice) poison(p, bytes);
  if (on_device) {
    count(device, bytes);
  } else {
    ++device.counters.host_allocations;
  }
  ++state.memory_changes;
  if (hooks() != nullptr) hooks()->memory_begin(block->memory);
  state.live.emplace(number(p), std::move(block));
  *out = p;
  return cudaSuccess;
}

cudaError_t begin_free(void* pointer, Place place, const char* call, AllocatedPointer* out) {
  const AllocatedPointer block = block_at(pointer, true);
  if (!block) {
    report(std::string(call) + " of a pointer that CUDA has not allocated, or freed long ago");
    return cudaErrorInvalidValue;
  }
  if (block->free_queued) {
    report(std::string(call) + " frees again " + describe(*block));
    return cudaErrorInvalidValue;
  }
  if (block->memory.begin != pointer) {
    report(std::string(call) + " of " + describe_memory(pointer) + ", which is not its beginning");
    return cudaErrorInvalidValue;
  }
  const bool host = block->place == Place::kPinned;
  if (host != (place == Place::kPinned)) {
    report(std::string(call) + " of " + describe(*block));
    return cudaErrorInvalidValue;
  }
  block->free_queued = true;
  *out = block;
  return cudaSuccess;
}

void release(const AllocatedPointer& block) {
  State& state = State::get();
  check_canary(*block);
  if (block->place != Place::kPinned) {
    state.device(block->memory.device).counters.device_bytes -= block->memory.bytes;
  }
  unpoison(block->memory.begin, block->memory.bytes);
  std::memset(block->memory.begin, 0xFF, block->memory.bytes);
  poison(block->memory.begin, block->memory.bytes);
  ++state.memory_changes;
  if (hooks() != nullptr) hooks()->memory_end(block->memory);
  state.live.erase(number(block->memory.begin));
  state.freed.emplace(number(block->memory.begin), block);
  state.freed_order.push_back(block);
  state.freed_bytes += block->memory.bytes;
  while (state.freed_bytes > kKeepFreedBytes) forget_oldest(state);
}

void release_everything() {
  State& state = State::get();
  while (!state.freed_order.empty()) forget_oldest(state);
  for (const auto& [address, block] : state.live) {
    if (hooks() != nullptr) hooks()->memory_end(block->memory);
    unpoison(block->memory.begin, block->memory.bytes);
    std::free(block->memory.begin);
  }
  ++state.memory_changes;
  state.live.clear();
}

cudaError_t check_range(const void* data, std::size_t bytes, const std::string& what, AllocatedPointer* out) {
  *out = nullptr;
  if (bytes == 0) return cudaSuccess;
  const AllocatedPointer block = block_at(data, true);
  if (!block) return cudaSuccess;
  if (block->free_queued) {
    report(what + " uses " + describe(*block));
    return cudaErrorInvalidValue;
  }
  const std::size_t offset = number(data) - number(block->memory.begin);
  if (bytes > block->memory.bytes - offset) {
    report(what + " of " + std::to_string(bytes) + " bytes leaves its memory: it begins at " + describe_memory(data));
    return cudaErrorInvalidValue;
  }
  *out = block;
  return cudaSuccess;
}

void note_use(const AllocatedPointer& block, const Stream& stream, const Work& work) {
  if (!block) return;
  if (block->stream && stream.clock.at(block->stream->id) < block->serial) {
    report(work.what + " uses, without waiting for " + block->stream->name + ", " + describe(*block) +
           ", which exists in the order of that stream only");
  }
  block->uses[stream.id] = {work.serial, work.what};
}

MemoryAccess::MemoryAccess(int device) : device_(device) {
  if (__asan_unpoison_memory_region == nullptr) return;
  State& state = State::get();
  const Device& own = state.device(device_);
  for (const auto& [address, block] : state.live) {
    const int owner = block->memory.device;
    if (owner == device_ || own.peers.count(owner) != 0) unpoison(block->memory.begin, block->memory.bytes);
  }
}

MemoryAccess::~MemoryAccess() {
  if (__asan_poison_memory_region == nullptr) return;
  for (const auto& [address, block] : State::get().live) {
    if (block->place == Place::kDevice) poison(block->memory.begin, block->memory.bytes);
  }
}

RangeAccess::RangeAccess(const AllocatedPointer& block) : block_(block.get()) {
  if (block_ != nullptr) unpoison(block_->memory.begin, block_->memory.bytes);
}

RangeAccess::~RangeAccess() {
  if (block_ != nullptr && block_->place == Place::kDevice) poison(block_->memory.begin, block_->memory.bytes);
}

}  // namespace ag::emu
