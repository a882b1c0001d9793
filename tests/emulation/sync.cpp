// SPDX-License-Identifier: Apache-2.0
#include "sync.hpp"

#include <bit>
#include <cstring>

#include "machine.hpp"

namespace ag::emu {
namespace {

std::string hex(std::uint32_t mask) {
  char buffer[16];
  std::snprintf(buffer, sizeof buffer, "0x%08x", mask);
  return buffer;
}

// All lanes have arrived: runs the operation, makes those that wait able to run.
void complete(Block& block, std::uint32_t warp_index, std::size_t which, const Thread* runs_on) {
  Warp& warp = block.warps[warp_index];
  const Rendezvous met = warp.rendezvous[which];
  warp.rendezvous[which].arrived = 0;
  Lanes lanes;
  lanes.arrived = met.arrived;
  lanes.first_thread = warp_index * 32;
  lanes.site = met.site;
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    if (lanes.has(lane)) lanes.argument[lane] = block.threads[warp_index * 32 + lane].argument;
  }
  met.op->run(lanes);
  ++live_counters().collectives;
  machine().progress();
  if (Hooks* const hooks = machine().hooks()) {
    std::array<std::uint32_t, 32> threads;
    std::size_t n = 0;
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      if (lanes.has(lane)) threads[n++] = lanes.first_thread + lane;
    }
    if (met.op->orders_memory) {
      hooks->join(Join::kSyncWarp, {threads.data(), n});
    } else {
      hooks->collective({threads.data(), n});
    }
  }
  const bool reverse = machine().grid_options().schedule == Schedule::kReverse;
  for (std::uint32_t i = 0; i < 32; ++i) {
    const std::uint32_t lane = reverse ? 31 - i : i;
    Thread& thread = block.threads[warp_index * 32 + (lanes.has(lane) ? lane : 0)];
    if (lanes.has(lane) && &thread != runs_on) machine().wake(thread);
  }
}

void release(Block& block, Barrier& barrier, Join kind) {
  ++live_counters().block_barriers;
  machine().progress();
  if (kind == Join::kBlockBarrier) machine().reshuffle(block);
  Thread& self = machine().current();
  if (Hooks* const hooks = machine().hooks()) {
    std::vector<std::uint32_t> threads{self.identity.thread};
    for (const Thread* thread : barrier.waiting) threads.push_back(thread->identity.thread);
    hooks->join(kind, threads);
  }
  if (machine().grid_options().schedule == Schedule::kReverse) {
    for (auto it = barrier.waiting.rbegin(); it != barrier.waiting.rend(); ++it) machine().wake(**it);
  } else {
    for (Thread* thread : barrier.waiting) machine().wake(*thread);
  }
  barrier.waiting.clear();
}

}  // namespace

void lane_ended(Block& block, std::uint32_t warp_index) {
  Warp& warp = block.warps[warp_index];
  for (std::size_t i = 0; i < warp.rendezvous.size(); ++i) {
    const Rendezvous& r = warp.rendezvous[i];
    if (r.arrived == 0) continue;
    if (r.op->all_lanes) {
      machine().fail(r.site, std::string("the thread ends, but lanes ") + hex(r.arrived) +
                                 " of its warp wait for it in " + r.op->name);
    }
    if (r.arrived == (r.mask & warp.live)) complete(block, warp_index, i, nullptr);
  }
}

void arrive_collective(const Collective& op, std::uint32_t mask, void* argument, const void* variant, Site site) {
  Machine& m = machine();
  Thread& self = m.current();
  Block& block = *self.block;
  Warp& warp = block.warps[self.warp];
  const std::uint32_t bit = 1u << self.lane;
  if ((mask & bit) == 0) {
    m.fail(site, std::string(op.name) + ": lane " + std::to_string(self.lane) + " is not in the mask " + hex(mask));
  }
  if (op.all_lanes && warp.live != 0xffffffffu) {
    m.fail(site, std::string(op.name) + " needs all 32 lanes of the warp; lanes " + hex(~warp.live) + " " +
                     (warp.lanes == warp.live ? "do not exist" : "have ended"));
  }
  std::size_t which = warp.rendezvous.size();
  for (std::size_t i = 0; i < warp.rendezvous.size(); ++i) {
    const Rendezvous& r = warp.rendezvous[i];
    if (r.arrived == 0) {
      which = i;
    } else if (r.mask == mask) {
      which = i;
      break;
    }
  }
  if (which == warp.rendezvous.size()) warp.rendezvous.push_back({});
  Rendezvous& r = warp.rendezvous[which];
  if (r.arrived == 0) {
    r = {mask, 0, &op, variant, site};
  } else if (r.op != &op || r.variant != variant || !same(r.site, site)) {
    m.fail(site, std::string("the warp diverges: lane ") + std::to_string(self.lane) + " calls " + op.name +
                     " with mask " + hex(mask) + ", while lanes " + hex(r.arrived) + " wait in " + r.op->name + " at " +
                     text(r.site) + " with the same mask");
  }
  self.argument = argument;
  r.arrived |= bit;
  if (r.arrived == (mask & warp.live)) {
    complete(block, self.warp, which, &self);
  } else {
    m.suspend(op.name, site);
  }
}

void arrive_barrier(std::uint32_t id, std::uint32_t expected, Site site) {
  Machine& m = machine();
  Thread& self = m.current();
  Block& block = *self.block;
  const auto all = static_cast<std::uint32_t>(block.threads.size());
  if (id >= block.barriers.size()) m.fail(site, "barrier " + std::to_string(id) + ": there are 0 to 15");
  if (expected == 0 || expected > all) {
    m.fail(site, "a barrier of " + std::to_string(expected) + " threads in a block of " + std::to_string(all));
  }
  if (expected == all && block.live < all) {
    m.fail(site, "a barrier of the whole block, " + std::to_string(all - block.live) + " of whose threads have ended");
  }
  Barrier& barrier = block.barriers[id];
  if (barrier.waiting.empty()) {
    barrier.expected = expected;
    barrier.site = site;
  } else if (barrier.expected != expected) {
    m.fail(site, "barrier " + std::to_string(id) + " of " + std::to_string(expected) +
                     " threads, while others wait at " + text(barrier.site) + " for " +
                     std::to_string(barrier.expected));
  } else if (id == 0 && !same(barrier.site, site)) {
    m.fail(site, "the block diverges: " + std::to_string(barrier.waiting.size()) +
                     " of its threads wait in another barrier, at " + text(barrier.site));
  }
  if (barrier.waiting.size() + 1 == expected) {
    release(block, barrier, expected == all ? Join::kBlockBarrier : Join::kNamedBarrier);
    return;
  }
  barrier.waiting.push_back(&self);
  m.suspend(id == 0 ? "a block barrier" : "a named barrier", site);
}

void block_barrier(Site site) {
  arrive_barrier(0, static_cast<std::uint32_t>(machine().current().block->threads.size()), site);
}

std::uint32_t block_count(bool predicate, Site site) {
  Block& block = *machine().current().block;
  // The count of a generation is read after its barrier and before the next one's last thread arrives.
  std::uint32_t& count = block.votes[block.vote_generation & 1];
  if (predicate) ++count;
  const std::uint32_t* const mine = &count;
  const bool last = block.barriers[0].waiting.size() + 1 == block.threads.size();
  if (last) {
    ++block.vote_generation;
    block.votes[block.vote_generation & 1] = 0;
  }
  block_barrier(site);
  return *mine;
}

void sync_warp(std::uint32_t mask, Site site) {
  static const Collective op{"__syncwarp", [](Lanes&) {}, false, true};
  arrive_collective(op, mask, nullptr, nullptr, site);
}

std::uint32_t active_mask() {
  const Thread& self = machine().current();
  return self.block->warps[self.warp].live;
}

void yield_thread() { machine().yield(true, machine().config().site); }

void before_atomic(const void* p, std::size_t bytes, Site site) {
  Machine& m = machine();
  if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0) {
    m.fail(site, "an atomic of " + std::to_string(bytes) + " bytes at an address that is not a multiple of it");
  }
  ++live_counters().atomics;
  if (m.grid_options().yield_before_atomic > 0 && m.random().chance(m.grid_options().yield_before_atomic)) {
    m.yield(false, site);
  }
  // A loop of atomics may wait for what another thread has to write.
  if (++m.current().atomics % 1024 == 0) m.yield(true, site);
  if (Hooks* const hooks = m.hooks()) hooks->access(m.current().identity.thread, p, bytes, true, true, site);
}

void memory_fence() {
  if (Hooks* const hooks = machine().hooks()) hooks->fence(machine().current().identity.thread);
}

long long thread_clock() { return static_cast<long long>(live_counters().switches + live_counters().collectives); }

}  // namespace ag::emu
