// SPDX-License-Identifier: Apache-2.0
// mbarriers: threads wait for arrivals and for bytes; a thread that waits lets others run.
#include "mbarrier.hpp"

#include "machine.hpp"
#include "ptx_program.hpp"

namespace ag::emu {
namespace {

constexpr std::uint32_t kMostArrivals = (1u << 20) - 1;

void* checked(const PtxCall& call, std::size_t item) {
  void* const p = call.pointer(item);
  check_shared(p, 8, 8, call.step->opcode->name, call.site);
  return p;
}

MBarrier& live(void* p, Site site) {
  auto& all = machine().current().block->mbarriers.live;
  const auto found = all.find(p);
  if (found == all.end()) fail_kernel(site, "the mbarrier has not been initialised");
  return found->second;
}

// Not a read of a value: what init wrote has to come before, and that is all that the checker looks at.
void touch(void* p, Site site) {
  Machine& m = machine();
  if (Hooks* const hooks = m.hooks()) hooks->access(m.current().identity.thread, p, 8, false, true, site);
}

void arrive(MBarrier& barrier, void* p, Site site) {
  Machine& m = machine();
  if (barrier.pending == 0) {
    fail_kernel(site, "mbarrier: more arrivals than the " + std::to_string(barrier.count) +
                          " of its phase, which waits for " + std::to_string(barrier.bytes) + " bytes");
  }
  --barrier.pending;
  if (Hooks* const hooks = m.hooks()) hooks->mbarrier_arrive(m.current().identity.thread, p);
}

}  // namespace

void need_capability(const char* what, int least, int most, Site site) {
  const int has = machine().config().compute_capability;
  if (has >= least && has <= most) return;
  fail_kernel(site, std::string(what) + " is not an instruction of devices of compute capability " +
                        std::to_string(has / 10) + "." + std::to_string(has % 10));
}

void end_mbarrier_phase(Block& block, void* p, Site site) {
  MBarrier& barrier = block.mbarriers.live.at(p);
  if (barrier.pending > 0 || barrier.bytes != 0) return;
  for (const TensorCopy& copy : block.mbarriers.on_the_way) {
    if (copy.mbarrier != p) continue;
    fail_kernel(site, "mbarrier: its phase ends while a tensor copy that was issued at " + text(copy.site) +
                          " is on its way: more bytes come than expect_tx said");
  }
  ++barrier.phase;
  barrier.pending = barrier.count;
  Machine& m = machine();
  m.progress();
  if (Hooks* const hooks = m.hooks()) hooks->mbarrier_complete(p);
  for (Thread* const thread : barrier.waiting) m.wake(*thread);
  barrier.waiting.clear();
}

void execute_mbarrier_init(const PtxCall& call) {
  void* const p = checked(call, 0);
  Machine& m = machine();
  need_capability("mbarrier", 80, 999, call.site);
  const std::int64_t count = call.immediate(1);
  if (count < 1 || count > kMostArrivals) {
    fail_kernel(call.site, "mbarrier.init: a count of " + std::to_string(count) + "; 1 to 2^20 - 1 are possible");
  }
  Thread& self = m.current();
  MBarrier& barrier = self.block->mbarriers.live[p];
  if (!barrier.waiting.empty()) fail_kernel(call.site, "mbarrier.init: threads wait on the mbarrier that is there");
  barrier = {};
  barrier.count = barrier.pending = static_cast<std::uint32_t>(count);
  barrier.initialised_by = self.identity.thread;
  if (Hooks* const hooks = m.hooks()) hooks->access(self.identity.thread, p, 8, true, false, call.site);
}

void execute_mbarrier_arrive(const PtxCall& call) {
  void* const p = checked(call, 1);
  MBarrier& barrier = live(p, call.site);
  touch(p, call.site);
  call.store_wide(0, barrier.phase);
  arrive(barrier, p, call.site);
  end_mbarrier_phase(*machine().current().block, p, call.site);
}

void execute_mbarrier_arrive_expect(const PtxCall& call) {
  void* const p = checked(call, 1);
  MBarrier& barrier = live(p, call.site);
  touch(p, call.site);
  call.store_wide(0, barrier.phase);
  const std::int64_t bytes = call.immediate(2);
  if (bytes < 0 || barrier.bytes + bytes > kMostArrivals) {
    fail_kernel(call.site, "mbarrier: " + std::to_string(barrier.bytes + bytes) + " bytes expected; 2^20 - 1 at most");
  }
  barrier.bytes += bytes;
  arrive(barrier, p, call.site);
  end_mbarrier_phase(*machine().current().block, p, call.site);
}

// True at once when the phase of this parity has ended, that is, when the current phase has the other one. Otherwise
// the thread waits; now and then it is sent away without an answer, as a device may do.
void execute_mbarrier_try_wait(const PtxCall& call) {
  void* const p = checked(call, 1);
  Machine& m = machine();
  Thread& self = m.current();
  MBarrier& barrier = live(p, call.site);
  touch(p, call.site);
  const std::int64_t parity = call.immediate(2);
  if (parity != 0 && parity != 1) fail_kernel(call.site, "mbarrier: a parity of " + std::to_string(parity));
  if (static_cast<std::int64_t>(barrier.phase & 1) == parity) {
    if (m.grid_options().schedule != Schedule::kForward && m.random().chance(1.0 / 16)) {
      call.store_wide(0, 0);
      return m.yield(false, call.site);
    }
    barrier.waiting.push_back(&self);
    m.suspend("an mbarrier", call.site);
  }
  if (Hooks* const hooks = m.hooks()) hooks->mbarrier_wait(self.identity.thread, p);
  call.store_wide(0, 1);
}

void execute_mbarrier_fence(const PtxCall&) {
  const Thread& self = machine().current();
  for (auto& [p, barrier] : self.block->mbarriers.live) {
    if (barrier.initialised_by == self.identity.thread) barrier.proxy_knows = true;
  }
}

void execute_proxy_fence(const PtxCall& call) {
  execute_mbarrier_fence(call);
  if (Hooks* const hooks = machine().hooks()) hooks->proxy_fence(machine().current().identity.thread);
}

}  // namespace ag::emu
