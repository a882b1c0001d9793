// SPDX-License-Identifier: Apache-2.0
// The emulator's parts and what they promise each other. Kernels never see this file: device.hpp gives them CUDA's
// words.
//
//   core     (this folder)   runs one grid: fibers, barriers, warp collectives, shared memory, PTX text, schedules
//   runtime  (runtime/)      CUDA's runtime API: devices, memory, streams, events, attributes; cuBLAS over OpenBLAS
//   checker  (runtime/)      races and uninitialised reads, from the core's hooks and the compiler's instrumentation
//
// One grid runs at a time in a process, on the host thread that asked for it; run_grid holds a lock.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace ag::emu {

// Where something stands in a source file.
struct Site {
  const char* file = "";
  int line = 0;
  // As a default argument it is the place of the call.
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

// ---- launches ----

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes = 0;
  cudaStream_t stream = nullptr;
  const void* kernel = nullptr;  // the function's address, as cudaFuncSetAttribute knows it
  std::size_t parameter_bytes = 0;
  // The bytes of each argument, good during launch(): the runtime looks for pointers that the device must not follow.
  std::vector<std::span<const std::byte>> arguments;
  const char* name = "";  // as written in the launch
  Site site;
  // The runtime fills these before it calls run_grid.
  int device = 0;
  int compute_capability = 80;  // 10 * major + minor
  // More than 48 KiB only by cudaFuncSetAttribute, which allows so much dynamic memory, and with the static part
  // together what the device has.
  std::size_t shared_limit_bytes = 48 * 1024;  // dynamic
  std::size_t shared_total_bytes = 48 * 1024;  // static and dynamic
};

// Calls the kernel with copies of its arguments: once for every thread of the grid.
using KernelBody = std::function<void()>;

// Runtime: takes a launch, checks it by check_launch, and calls run_grid when its stream gets there.
cudaError_t launch(LaunchConfig config, KernelBody body);

// Core: cudaErrorInvalidConfiguration or cudaErrorInvalidValue where CUDA refuses a launch, with the reason in
// last_error(): dimensions, threads of a block, shared memory, bytes of parameters.
cudaError_t check_launch(const LaunchConfig& config);

// Core: runs the grid to its end. cudaErrorLaunchFailure when a thread does what CUDA leaves undefined or a device
// refuses; last_error() says which thread, where, what.
cudaError_t run_grid(const LaunchConfig& config, const KernelBody& body);

// The first failure since clear_last_error(), a sentence; empty when there was none.
std::string last_error();
void clear_last_error();
// For the runtime and the checker outside of kernels: keeps the first message.
void record_error(std::string message);

// ---- inside a kernel ----

// The kernel's name in the text of a launch's arguments, "softmax_kernel<64, true>, q, k"; lives as long as the
// process.
const char* kernel_name(const char* arguments_text);
// False, with the reason in last_error(): launch attributes that the emulator does not have (clusters and so on).
bool attributes_allowed(const cudaLaunchAttribute* attributes, unsigned count, const LaunchConfig& config);

// Fails the grid that runs: records "kernel<...> block (1,0,0) thread (3,0,0) file:line: message" and leaves it.
[[noreturn]] void fail_kernel(Site site, const std::string& message);

// True on the host thread that runs a grid, between the begin of its first thread and the end of its last.
bool in_kernel();

struct ThreadIdentity {
  std::uint64_t grid = 0;    // serial number of the launch in this process
  std::uint64_t block = 0;   // linear, x fastest
  std::uint32_t thread = 0;  // linear in its block; its warp is thread / 32, its lane thread % 32
  std::uint32_t slot = 0;    // of the block among the resident ones: below Options::resident_blocks
  int device = 0;
};
// Of the thread that runs now. Only while in_kernel().
const ThreadIdentity& current_thread();
// "block (1,0,0) thread (3,0,0)" of a thread of the running grid.
std::string describe_thread(std::uint64_t block, std::uint32_t thread);

// A piece of memory. Of the running thread's block, or its stack; empty when p is in none of them.
struct Region {
  std::byte* begin = nullptr;
  std::size_t bytes = 0;
  bool contains(const void* p, std::size_t n = 1) const {
    const auto offset = reinterpret_cast<std::uintptr_t>(p) - reinterpret_cast<std::uintptr_t>(begin);
    return offset < bytes && n <= bytes - offset;
  }
};
Region shared_region(const void* p);
Region stack_region();

// ---- memory, by the runtime ----

class Memory {
 public:
  struct Allocation {
    std::byte* begin = nullptr;
    std::size_t bytes = 0;
    int device = 0;
    bool host = false;  // pinned or managed: the host may touch it, and so may every device
  };
  // The live allocation that holds p, or null. Pointers stay good until that allocation is freed.
  static const Allocation* find(const void* p);
};

// ---- hooks, for the checker ----

enum class Join { kBlockBarrier, kNamedBarrier, kSyncWarp };

class Hooks {
 public:
  virtual ~Hooks() = default;
  virtual void grid_begin(const LaunchConfig&, std::uint64_t /*grid*/) {}
  virtual void grid_end(std::uint64_t /*grid*/) {}  // also after a failure
  virtual void block_begin(const ThreadIdentity& /*thread 0 of it*/, std::uint32_t /*threads*/) {}
  virtual void block_end(const ThreadIdentity&) {}  // all its threads have ended; its shared memory is still there
  // A piece of the block's shared memory appears (filled with 0xFF, never written) or goes.
  virtual void shared_begin(const ThreadIdentity&, Region) {}
  virtual void shared_end(const ThreadIdentity&, Region) {}
  // All these threads of current_thread()'s block have arrived: what each wrote before is visible to all after. Called
  // once, before any of them goes on.
  virtual void join(Join, std::span<const std::uint32_t> /*threads*/) {}
  // The same for a warp collective without memory order (shuffle, ballot, mma, ldmatrix).
  virtual void collective(std::span<const std::uint32_t> /*threads*/) {}
  // An access that instrumentation does not see: atomics, ldmatrix, cp.async. `thread` is of current_thread()'s block.
  virtual void access(std::uint32_t /*thread*/, const void*, std::size_t /*bytes*/, bool /*write*/, bool /*atomic*/,
                      Site) {}
  // cp.async: bytes at `shared` are on their way (unknown until they arrive), and have arrived. The source's read is
  // reported by access().
  virtual void copy_issued(std::uint32_t /*thread*/, const void* /*shared*/, std::size_t, Site) {}
  virtual void copy_arrived(std::uint32_t /*thread*/, const void* /*shared*/, std::size_t, Site) {}
  virtual void fence(std::uint32_t /*thread*/) {}  // __threadfence and its kin
  // fence.proxy.async: what this thread has written so far may be read by the asynchronous proxy.
  virtual void proxy_fence(std::uint32_t /*thread*/) {}
  // Shared memory touched by the asynchronous proxy (wgmma, tensor copies) on behalf of a thread.
  virtual void proxy_access(std::uint32_t /*thread*/, const void*, std::size_t /*bytes*/, bool /*write*/, Site) {}
  virtual void proxy_arrived(std::uint32_t /*thread*/, const void* /*shared*/, std::size_t /*bytes*/, Site) {}
  // mbarriers: what a thread did before its arrival is visible to all who have waited for the end of that phase.
  virtual void mbarrier_arrive(std::uint32_t /*thread*/, const void* /*mbarrier*/) {}
  virtual void mbarrier_complete(const void* /*mbarrier*/) {}
  virtual void mbarrier_wait(std::uint32_t /*thread*/, const void* /*mbarrier*/) {}
  // Device and pinned memory comes, goes, and is written outside of kernels: by copies, fills and libraries.
  virtual void memory_begin(const Memory::Allocation&) {}
  virtual void memory_end(const Memory::Allocation&) {}
  virtual void memory_written(const void*, std::size_t /*bytes*/) {}
  virtual void memory_copied(const void* /*to*/, const void* /*from*/, std::size_t /*bytes*/) {}  // both of a device
};
// Null: none. Not while a grid runs.
void set_hooks(Hooks* hooks);
Hooks* hooks();

// ---- how threads take turns ----

// The two priority orders run the runnable thread (or warp) of the highest random rank, so one may run far ahead of the
// others: they find a missing trailing barrier, which the other three do not.
enum class Schedule { kForward, kReverse, kRandom, kWarpPriority, kFiberPriority };
// When cp.async writes its bytes: at the wait (finds waits that are too lax), at once, or either by lot. So do tensor
// copies, lazy ones when no thread can go on without them, and wgmma, which reads its operands at the wait or at the
// commit.
enum class Copies { kLazy, kEager, kRandom };

struct Options {
  Schedule schedule = Schedule::kForward;
  std::uint64_t seed = 1;
  Copies copies = Copies::kLazy;
  std::uint32_t resident_blocks = 2;  // that take turns with each other
  bool shuffle_blocks = false;        // start blocks in random order
  double yield_before_atomic = 0;     // the chance that another thread runs first
};
// ATTNGRAPH_EMU_SCHEDULE=forward|reverse|random|warp|fiber[:seed]; all but forward shuffle blocks, yield before atomics
// at a chance of 1/4 and keep 3 blocks resident. ATTNGRAPH_EMU_COPIES=lazy|eager|random. Throws std::invalid_argument.
Options options_from_environment();
Options options_for(Schedule schedule, std::uint64_t seed);
Options options();  // of the grids to come; at first those of the environment
void set_options(const Options& options);

// ---- what has happened ----

struct Counters {
  std::uint64_t grids = 0, blocks = 0, threads = 0;
  std::uint64_t switches = 0;        // from one thread to another
  std::uint64_t block_barriers = 0;  // completed
  std::uint64_t collectives = 0;     // of warps, completed; mma and ldmatrix among them
  std::uint64_t mma = 0;
  std::uint64_t ldmatrix = 0;
  std::uint64_t ldmatrix_conflicts = 0;  // wavefronts beyond one for each 8x8 matrix
  std::uint64_t cp_async = 0;
  std::uint64_t cp_async_bytes = 0;  // read from global memory: zero fill is not
  std::uint64_t atomics = 0;
  std::uint64_t wgmma = 0;  // of a warp, a quarter of a warpgroup's
  std::uint64_t tensor_copies = 0;
  std::uint64_t tensor_copy_bytes = 0;  // written to shared memory
};
Counters counters();
void reset_counters();

}  // namespace ag::emu
