// SPDX-License-Identifier: Apache-2.0
#include "machine.hpp"

#include <algorithm>
#include <exception>
#include <mutex>
#include <numeric>

#include "fault.hpp"

// What kernels read as threadIdx and so on: rewritten at every switch.
__attribute__((visibility("default"))) uint3 threadIdx = {};
__attribute__((visibility("default"))) uint3 blockIdx = {};
__attribute__((visibility("default"))) dim3 blockDim;
__attribute__((visibility("default"))) dim3 gridDim;

namespace ag::emu {
namespace {

thread_local bool t_in_kernel = false;
std::mutex g_grid;  // one grid at a time

uint3 unfold(std::uint64_t linear, const dim3& extent) {
  return {static_cast<unsigned>(linear % extent.x), static_cast<unsigned>(linear / extent.x % extent.y),
          static_cast<unsigned>(linear / extent.x / extent.y)};
}

std::string triple(const uint3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

// Unwinds the thread that fails: what its frames own is freed.
struct KernelFailed {};

// Ranks of threads that have not yielded are above this.
constexpr std::uint64_t kFirstYieldRank = std::uint64_t{1} << 62;

}  // namespace

Machine the_machine;

bool in_kernel() { return t_in_kernel; }
const ThreadIdentity& current_thread() { return machine().current().identity; }

std::string describe_thread(std::uint64_t block, std::uint32_t thread) {
  return "block " + triple(unfold(block, gridDim)) + " thread " + triple(unfold(thread, blockDim));
}

Region stack_region() {
  const Stack* const stack = machine().current().stack;
  return {stack->bottom(), stack->bytes()};
}

cudaError_t run_grid(const LaunchConfig& config, const KernelBody& body) {
  if (t_in_kernel) fail_kernel(config.site, "a kernel may not be launched from a kernel");
  const std::lock_guard lock(g_grid);
  const FaultGuard guard;
  t_in_kernel = true;
  const cudaError_t code = machine().run(config, body);
  t_in_kernel = false;
  return code;
}

void set_hooks(Hooks* hooks) {
  const std::lock_guard lock(g_grid);
  machine().set_hooks(hooks);
}

Hooks* hooks() { return machine().hooks(); }

void fail_kernel(Site site, const std::string& message) { machine().fail(site, message); }

cudaError_t Machine::run(const LaunchConfig& config, const KernelBody& body) {
  config_ = &config;
  body_ = &body;
  options_ = options();
  ++serial_;
  ++live_counters().grids;
  random_ = Random(options_.seed * 0x2545f4914f6cdd1du + serial_);
  failed_ = false;
  last_allocation_ = nullptr;
  ::blockDim = config.block;
  ::gridDim = config.grid;
  if (hooks_ != nullptr) hooks_->grid_begin(config, serial_);

  begin_blocks();
  Thread* const first = queue_.pop(random_);
  set_current(first);
  first->stack = stacks_.take();
  prepare(first->context, *first->stack, &Machine::thread_entry);
  switch_context(host_, first->context);

  drop_everything();
  if (hooks_ != nullptr) hooks_->grid_end(serial_);
  return failed_ ? cudaErrorLaunchFailure : cudaSuccess;
}

void Machine::begin_blocks() {
  const dim3 grid = config_->grid;
  const std::size_t threads = std::size_t{config_->block.x} * config_->block.y * config_->block.z;
  block_count_ = std::uint64_t{grid.x} * grid.y * grid.z;
  next_block_ = 0;
  live_threads_ = 0;
  lowest_rank_ = kFirstYieldRank;
  idle_yields_ = 0;
  order_.clear();
  if (options_.shuffle_blocks) {
    order_.resize(block_count_);
    std::iota(order_.begin(), order_.end(), 0u);
    for (std::uint64_t i = block_count_; i > 1; --i) std::swap(order_[i - 1], order_[random_.below(i)]);
  }
  const auto resident =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(block_count_, std::max(options_.resident_blocks, 1u)));
  queue_.begin(options_.schedule, resident * threads);
  blocks_.resize(resident);
  for (std::uint32_t slot = 0; slot < resident; ++slot) {
    if (blocks_[slot] == nullptr) blocks_[slot] = std::make_unique<Block>();
    Block& block = *blocks_[slot];
    block.slot = slot;
    block.threads.resize(threads);
    block.warps.resize((threads + 31) / 32);
    start_block(block, next_block_++);
  }
}

void Machine::start_block(Block& block, std::uint64_t position) {
  block.linear = order_.empty() ? position : order_[position];
  block.index = unfold(block.linear, config_->grid);
  block.live = static_cast<std::uint32_t>(block.threads.size());
  block.votes[0] = block.votes[1] = block.vote_generation = 0;
  for (Warp& warp : block.warps) warp = {};
  for (Barrier& barrier : block.barriers) barrier.waiting.clear();
  block.mbarriers.clear();
  block.warpgroups.assign((block.live + 127) / 128, {});
  block.free_registers = 0;
  block.register_waiters.clear();
  for (std::uint32_t i = 0; i < block.live; ++i) {
    Thread& thread = block.threads[i];
    thread.block = &block;
    thread.index = unfold(i, config_->block);
    thread.identity = {serial_, block.linear, i, block.slot, config_->device};
    thread.lane = i % 32;
    thread.warp = i / 32;
    thread.ended = false;
    thread.waits_for = nullptr;
    thread.copies.clear();
    thread.copy_group = 0;
    thread.atomics = 0;
    thread.products.clear();
    thread.registers = registers_at_launch(block.live);
    block.warps[thread.warp].lanes |= 1u << thread.lane;
  }
  for (Warp& warp : block.warps) warp.live = warp.lanes;
  draw_ranks(block);
  live_threads_ += block.live;
  ++live_counters().blocks;
  live_counters().threads += block.live;
  if (hooks_ != nullptr) hooks_->block_begin(block.threads.front().identity, block.live);
  block.shared.begin(block.threads.front().identity, config_->dynamic_shared_bytes);

  const bool reverse = options_.schedule == Schedule::kReverse;
  for (std::uint32_t i = 0; i < block.live; ++i) queue_.push(&block.threads[reverse ? block.live - 1 - i : i]);
}

void Machine::end_block(Block& block) {
  if (hooks_ != nullptr) hooks_->block_end(block.threads.front().identity);
  block.shared.end();
}

void Machine::draw_ranks(Block& block) {
  if (options_.schedule != Schedule::kWarpPriority && options_.schedule != Schedule::kFiberPriority) return;
  std::uint64_t of_warp = 0;
  for (Thread& thread : block.threads) {
    if (options_.schedule == Schedule::kFiberPriority) {
      thread.rank = random_.next() | kFirstYieldRank << 1;
    } else {
      if (thread.lane == 0) of_warp = random_.next() | kFirstYieldRank << 1;
      thread.rank = (of_warp & ~std::uint64_t{31}) | (31 - thread.lane);
    }
  }
}

void Machine::reshuffle(Block& block) {
  if (random_.chance(0.5)) draw_ranks(block);
}

void Machine::set_current(Thread* thread) {
  current_ = thread;
  ::threadIdx = thread->index;
  ::blockIdx = thread->block->index;
}

void Machine::thread_entry() { machine().thread_loop(); }

// Runs threads to their ends, one after the other as long as the next one has not begun: a kernel without barriers
// never switches.
void Machine::thread_loop() {
  for (;;) {
    Thread* next_thread = nullptr;
    try {
      (*body_)();
      next_thread = end_thread();
    } catch (const KernelFailed&) {
      failed_ = true;
    } catch (const std::exception& e) {
      record_failure(config_->site, std::string("the kernel threw an exception: ") + e.what());
      failed_ = true;
    }
    Thread* const ended = current_;
    Stack* const stack = ended->stack;
    ended->stack = nullptr;
    if (next_thread == nullptr) {  // all have ended, or one has failed
      stacks_.give(stack);
      leave_context(ended->context, host_);
    }
    set_current(next_thread);
    if (next_thread->stack == nullptr) {
      next_thread->stack = stack;
      next_thread->context = {nullptr, nullptr, stack};
      continue;
    }
    stacks_.give(stack);
    ++live_counters().switches;
    leave_context(ended->context, next_thread->context);
  }
}

Thread* Machine::end_thread() {
  Thread& thread = *current_;
  Block& block = *thread.block;
  finish_copies(thread, 0);
  check_products(thread);
  for (Barrier& barrier : block.barriers) {
    if (!barrier.waiting.empty() && barrier.expected == block.threads.size()) {
      fail(config_->site, "the thread ends, but " + std::to_string(barrier.waiting.size()) +
                              " threads of its block wait for it in a barrier at " + text(barrier.site));
    }
  }
  thread.ended = true;
  idle_yields_ = 0;
  --live_threads_;
  Warp& warp = block.warps[thread.warp];
  warp.live &= ~(1u << thread.lane);
  lane_ended(block, thread.warp);
  if (--block.live == 0) {
    end_block(block);
    if (next_block_ < block_count_) start_block(block, next_block_++);
  }
  if (live_threads_ == 0) return nullptr;
  return next_thread();
}

// Tensor copies that are on their way arrive when nobody can go on without them.
Thread* Machine::next_thread() {
  while (queue_.empty()) {
    if (!deliver_tensor_copy()) report_deadlock();
  }
  return queue_.pop(random_);
}

bool Machine::deliver_tensor_copy() {
  for (const auto& block : blocks_) {
    if (block->live == 0 || block->mbarriers.on_the_way.empty()) continue;
    // For the thread that issued it, of whichever block.
    struct Acting {
      Thread*& current;
      Thread* before;
      ~Acting() { current = before; }
    } acting{current_, current_};
    emu::deliver_tensor_copy(*block);
    return true;
  }
  return false;
}

void Machine::suspend(const char* waits_for, Site site) {
  current_->waits_for = waits_for;
  current_->site = site;
  switch_to(next_thread());
}

void Machine::wake(Thread& thread) {
  thread.waits_for = nullptr;
  queue_.push(&thread);
}

void Machine::yield(bool idle, Site site) {
  if (idle && ++idle_yields_ > 20000 * live_threads_) {
    fail(site,
         "livelock: threads only wait for each other's memory; is what they wait for written by a block that is not "
         "resident (Options::resident_blocks)?");
  }
  Thread& self = *current_;
  self.rank = --lowest_rank_;
  queue_.push(&self);
  switch_to(queue_.pop(random_));
}

void Machine::switch_to(Thread* thread) {
  Thread* const self = current_;
  if (thread == self) return;
  ++live_counters().switches;
  set_current(thread);
  if (thread->stack == nullptr) {
    thread->stack = stacks_.take();
    prepare(thread->context, *thread->stack, &Machine::thread_entry);
  }
  switch_context(self->context, thread->context);
  if (failed_) leave_context(self->context, host_);  // drop_everything: there is no grid any more
}

void Machine::record_failure(Site site, const std::string& message) {
  const ThreadIdentity& id = current_->identity;
  record_error(std::string(config_->name) + " " + describe_thread(id.block, id.thread) + ": " + text(site) + ": " +
               message);
}

void Machine::fail(Site site, const std::string& message) {
  record_failure(site, message);
  throw KernelFailed();
}

void Machine::fail_and_leave(const std::string& message) {
  record_failure(config_->site, message);
  failed_ = true;
  stacks_.give(current_->stack);
  current_->stack = nullptr;
  leave_context(current_->context, host_);
}

void Machine::drop_everything() {
  for (const auto& block : blocks_) {
    for (Thread& thread : block->threads) {
      if (thread.stack == nullptr) continue;
      // AddressSanitizer keeps a second stack for each, which only the thread itself can give back.
      if (address_sanitizer()) switch_context(host_, thread.context);
      stacks_.give(thread.stack);
      thread.stack = nullptr;
    }
    if (block->live > 0) {
      end_block(*block);
      block->live = 0;
    }
    block->shared.release();
  }
  current_ = nullptr;
}

void Machine::report_deadlock() {
  struct Group {
    std::string what;
    std::uint64_t count = 0;
    std::string first;
  };
  std::vector<Group> groups;
  for (const auto& block : blocks_) {
    for (const Thread& thread : block->threads) {
      if (thread.ended || thread.waits_for == nullptr) continue;
      const std::string what = std::string(thread.waits_for) + " at " + text(thread.site);
      auto it = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.what == what; });
      if (it == groups.end()) {
        groups.push_back({what, 0, describe_thread(thread.identity.block, thread.identity.thread)});
        it = groups.end() - 1;
      }
      ++it->count;
    }
  }
  std::string message = "deadlock: no thread can run;";
  for (const Group& group : groups) {
    message += " " + std::to_string(group.count) + (group.count == 1 ? " waits in " : " wait in ") + group.what +
               " (the first is " + group.first + ");";
  }
  message.back() = '.';
  fail(current_->site, message);
}

const Memory::Allocation* Machine::allocation(const void* p) {
  const auto holds = [&](const Memory::Allocation* a) {
    return a != nullptr && p >= a->begin && p < a->begin + a->bytes;
  };
  if (!holds(last_allocation_)) last_allocation_ = Memory::find(p);
  return last_allocation_;
}

}  // namespace ag::emu
