// SPDX-License-Identifier: Apache-2.0
// The grid that runs: its blocks, warps and threads, and what they wait for.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "emu.hpp"
#include "fiber.hpp"
#include "mbarrier.hpp"
#include "schedule.hpp"
#include "shared.hpp"
#include "sync.hpp"
#include "wgmma.hpp"

namespace ag::emu {

struct Block;

// A cp.async on its way.
struct AsyncCopy {
  void* shared = nullptr;
  const void* global = nullptr;
  std::uint32_t bytes = 0;  // written to shared memory
  std::uint32_t read = 0;   // of them read; the rest are zeros
  std::uint64_t group = 0;
  Site site;
};

struct Thread {
  Context context;
  Stack* stack = nullptr;  // null before it has started and after it has ended
  Block* block = nullptr;
  uint3 index = {};
  ThreadIdentity identity;
  std::uint32_t lane = 0;
  std::uint32_t warp = 0;
  bool ended = false;
  const char* waits_for = nullptr;  // null: it can run
  Site site;                        // of what it waits for
  void* argument = nullptr;         // of the collective it waits in
  std::uint64_t rank = 0;           // priority orders: the highest runs
  std::vector<AsyncCopy> copies;    // in the order of their groups
  std::uint64_t copy_group = 0;     // that the next copies join
  std::uint64_t atomics = 0;        // done
  Products products;                // wgmma on its way
  std::uint32_t registers = 0;      // as setmaxnreg has left them
};

// Lanes of a warp that meet in a collective, found by their mask.
struct Rendezvous {
  std::uint32_t mask = 0;
  std::uint32_t arrived = 0;  // 0: free
  const Collective* op = nullptr;
  const void* variant = nullptr;
  Site site;
};

struct Warp {
  std::uint32_t lanes = 0;  // that exist
  std::uint32_t live = 0;   // and have not ended
  std::vector<Rendezvous> rendezvous;
};

struct Barrier {
  std::uint32_t expected = 0;
  Site site;
  std::vector<Thread*> waiting;
};

struct Block {
  std::uint64_t linear = 0;
  uint3 index = {};
  std::uint32_t slot = 0;
  std::uint32_t live = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
  MBarriers mbarriers;
  std::vector<Warpgroup> warpgroups;
  std::uint32_t free_registers = 0;  // of the block's, for setmaxnreg
  std::vector<Thread*> register_waiters;
  SharedMemory shared;
  // __syncthreads_count: votes of this generation and of the one before.
  std::uint32_t votes[2] = {};
  std::uint32_t vote_generation = 0;
};

class Machine {
 public:
  cudaError_t run(const LaunchConfig& config, const KernelBody& body);

  Thread& current() { return *current_; }
  const LaunchConfig& config() const { return *config_; }
  const Options& grid_options() const { return options_; }
  Random& random() { return random_; }
  Hooks* hooks() const { return hooks_; }
  void set_hooks(Hooks* hooks) { hooks_ = hooks; }

  // The running thread waits until wake() makes it able to run.
  void suspend(const char* waits_for, Site site);
  void wake(Thread& thread);
  // The running thread lets others go first; idle: it waits for something that another thread does.
  void yield(bool idle, Site site);
  void progress() { idle_yields_ = 0; }
  // What happens now happens on behalf of this thread; whoever calls it puts the running one back.
  void act_as(Thread& thread) { current_ = &thread; }
  // After a block barrier, priority orders draw new ranks at times: who runs ahead is not always the same.
  void reshuffle(Block& block);
  [[noreturn]] void fail(Site site, const std::string& message);
  // The same for a thread whose frames cannot be trusted: they are dropped.
  [[noreturn]] void fail_and_leave(const std::string& message);

  // The live allocation of global memory that holds p, or null.
  const Memory::Allocation* allocation(const void* p);

 private:
  static void thread_entry();
  void thread_loop();
  void begin_blocks();
  void start_block(Block& block, std::uint64_t position);
  void end_block(Block& block);
  void draw_ranks(Block& block);
  Thread* end_thread();
  Thread* next_thread();
  void set_current(Thread* thread);
  void switch_to(Thread* thread);
  void drop_everything();
  void record_failure(Site site, const std::string& message);
  [[noreturn]] void report_deadlock();
  bool deliver_tensor_copy();

  const LaunchConfig* config_ = nullptr;
  const KernelBody* body_ = nullptr;
  Options options_;
  Random random_;
  Hooks* hooks_ = nullptr;

  Context host_;
  StackPool stacks_;
  Thread* current_ = nullptr;
  bool failed_ = false;

  RunQueue<Thread> queue_;
  std::vector<std::unique_ptr<Block>> blocks_;  // resident
  std::vector<std::uint64_t> order_;            // of blocks, where it is not ascending
  std::uint64_t next_block_ = 0;
  std::uint64_t block_count_ = 0;
  std::uint64_t live_threads_ = 0;
  std::uint64_t lowest_rank_ = 0;
  std::uint64_t idle_yields_ = 0;  // since a thread ended or threads met
  std::uint64_t serial_ = 0;
  const Memory::Allocation* last_allocation_ = nullptr;
};

extern Machine the_machine;
inline Machine& machine() { return the_machine; }
// Written by the thread that runs a grid alone; read between grids.
extern Counters the_counters;
inline Counters& live_counters() { return the_counters; }

inline bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

// sync.cpp: a lane of the warp has ended, which may be what others wait for.
void lane_ended(Block& block, std::uint32_t warp);
// ptx_memory.cpp: copies of all but the newest `pending` groups arrive.
void finish_copies(Thread& thread, std::uint64_t pending);

// ptx_memory.cpp: `bytes` at p lie in the block's shared memory, aligned to `alignment`; else the kernel fails.
void check_shared(const void* p, std::size_t bytes, std::size_t alignment, const char* what, Site site);
// mbarrier.cpp: the phase ends if its arrivals and bytes are complete.
void end_mbarrier_phase(Block& block, void* mbarrier, Site site);
// mbarrier.cpp: fails the kernel on a device that does not have the instruction.
void need_capability(const char* what, int least, int most, Site site);
// tensor_copy.cpp: one of the block's tensor copies that are on their way arrives.
void deliver_tensor_copy(Block& block);
// wgmma.cpp: faults of a thread that ends.
void check_products(Thread& thread);

// "file:line", the path as the compiler was given it.
std::string text(Site site);

}  // namespace ag::emu
