// SPDX-License-Identifier: Apache-2.0
#include "checker.hpp"

#include <algorithm>

#include "../runtime.hpp"
#include "../wgmma.hpp"

namespace ag::emu {

thread_local bool t_checks __attribute__((tls_model("initial-exec"))) = false;

namespace {

constexpr std::size_t kMostFindings = 20;  // of a grid

// Not before the emulator: it holds whoever is set.
[[maybe_unused]] const bool installed = [] {
  set_hooks(&Checker::get());
  return true;
}();

}  // namespace

Checker& Checker::get() {
  static Checker* const checker = new Checker;
  return *checker;
}

void Checker::grid_begin(const LaunchConfig& config, std::uint64_t grid) {
  kernel_ = config.name;
  grid_ = static_cast<std::uint32_t>(grid);
  t_checks = true;
}

void Checker::grid_end(std::uint64_t) {
  t_checks = false;
  for (const Finding& finding : findings_) {
    std::string text = kernel_ + ": " + finding.text + " at " + sites_.text(finding.site);
    if (finding.other_site != 0) text += "; the other access is at " + sites_.text(finding.other_site);
    report(text);
  }
  findings_.clear();
}

void Checker::block_begin(const ThreadIdentity& first, std::uint32_t threads) {
  if (first.slot >= clocks_.size()) clocks_.resize(first.slot + 1);
  clocks_[first.slot].begin(threads);
}

void Checker::shared_begin(const ThreadIdentity&, Region region) { shadow_.begin(region.begin, region.bytes, false); }
void Checker::shared_end(const ThreadIdentity&, Region region) {
  shadow_.end(region.begin);
  mbarriers_.erase(mbarriers_.lower_bound(region.begin), mbarriers_.lower_bound(region.begin + region.bytes));
}

void Checker::join(Join, std::span<const std::uint32_t> threads) { clocks_[current_thread().slot].join(threads); }

// The host may write what it shares with devices at any time.
void Checker::memory_begin(const Memory::Allocation& a) { shadow_.begin(a.begin, a.bytes, a.host); }
void Checker::memory_end(const Memory::Allocation& a) { shadow_.end(a.begin); }
void Checker::memory_written(const void* p, std::size_t bytes) { shadow_.written(p, bytes); }
void Checker::memory_copied(const void* to, const void* from, std::size_t bytes) { shadow_.copied(to, from, bytes); }

Checker::Doer Checker::doer(std::uint32_t thread, std::uint32_t site, bool atomic) const {
  const ThreadIdentity& id = current_thread();
  Doer who;
  who.slot = id.slot;
  who.atomic = atomic;
  who.access.grid = grid_;
  who.access.block = static_cast<std::uint32_t>(id.block);
  who.access.thread = thread << Access::kClockBits | clocks_[id.slot].own(thread);
  who.access.site = site;
  return who;
}

void Checker::touch(const void* p, std::size_t bytes, bool write, const void* return_address) {
  if (in_flight(p, bytes)) {
    const ThreadIdentity& id = current_thread();
    find({std::string("an accumulator of a wgmma is ") + (write ? "written" : "read") + " before the wait for it by " +
              describe_thread(id.block, id.thread),
          sites_.of(return_address), 0});
  }
  visit(p, bytes, write, doer(current_thread().thread, sites_.of(return_address), false));
}

void Checker::access(std::uint32_t thread, const void* p, std::size_t bytes, bool write, bool atomic, Site site) {
  const Doer who = doer(thread, sites_.of(site), atomic);
  if (atomic) visit(p, bytes, false, who);
  visit(p, bytes, write, who);
}

void Checker::copy_issued(std::uint32_t thread, const void* shared, std::size_t bytes, Site site) {
  visit(shared, bytes, true, doer(thread, sites_.of(site), false), After::kOnTheWay);
}

void Checker::copy_arrived(std::uint32_t thread, const void* shared, std::size_t bytes, Site site) {
  visit(shared, bytes, true, doer(thread, sites_.of(site), false));
}

void Checker::proxy_fence(std::uint32_t thread) { clocks_[current_thread().slot].fence(thread); }

void Checker::proxy_access(std::uint32_t thread, const void* p, std::size_t bytes, bool write, Site site) {
  Doer who = doer(thread, sites_.of(site), false);
  who.proxy = true;
  visit(p, bytes, write, who, After::kOnTheWay);
}

void Checker::proxy_arrived(std::uint32_t thread, const void* shared, std::size_t bytes, Site site) {
  Doer who = doer(thread, sites_.of(site), false);
  who.proxy = true;
  visit(shared, bytes, true, who);
}

void Checker::mbarrier_arrive(std::uint32_t thread, const void* mbarrier) {
  clocks_[current_thread().slot].release(thread, mbarriers_[mbarrier].now);
}

void Checker::mbarrier_complete(const void* mbarrier) { mbarriers_[mbarrier].before = mbarriers_[mbarrier].now; }

void Checker::mbarrier_wait(std::uint32_t thread, const void* mbarrier) {
  clocks_[current_thread().slot].acquire(thread, mbarriers_[mbarrier].before);
}

void Checker::visit(const void* p, std::size_t bytes, bool write_it, const Doer& who, After after) {
  const auto begin = reinterpret_cast<std::uintptr_t>(p), end = begin + bytes;
  const unsigned fine = (begin | bytes) % 4 == 0 ? 2 : 0;
  for (std::uintptr_t at = begin; at < end;) {
    const std::uintptr_t stop = std::min(end, (at / Shadow::kPageBytes + 1) * Shadow::kPageBytes);
    Shadow::Page* const page = shadow_.page(at, fine);
    if (page != nullptr) {
      const std::uintptr_t step = std::uintptr_t{1} << page->shift;
      for (std::uintptr_t cell = at; cell < stop; cell += step) {
        if (write_it) {
          write(page->at(cell), begin, bytes, who, after);
        } else {
          read(page->at(cell), begin, bytes, who);
        }
      }
    }
    at = stop;
  }
}

bool Checker::ordered(const Access& before, const Doer& who) const {
  if (before.site == 0 || before.grid != grid_) return true;
  if (before.block != who.access.block) return false;
  return before.lane() == who.access.lane() || clocks_[who.slot].sees(who.access.lane(), before.lane(), before.clock());
}

void Checker::read(Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who) {
  if ((cell.state & Cell::kTracked) == 0) return;
  if ((cell.state & Cell::kWritten) == 0) unwritten(cell, at, bytes, who);
  if (who.proxy) check_proxy(cell, at, bytes, who);
  const bool both_atomic = who.atomic && (cell.state & Cell::kAtomic) != 0;
  if (!both_atomic && !ordered(cell.write, who)) race("written", cell.write, "read", at, bytes, who);
  if (who.atomic) return;  // the write that follows stands for both
  for (Access& earlier : cell.reads) {
    if (!ordered(earlier, who)) continue;
    earlier = who.access;
    return;
  }
}

void Checker::write(Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who, After after) {
  if ((cell.state & Cell::kTracked) == 0) return;
  const bool both_atomic = who.atomic && (cell.state & Cell::kAtomic) != 0;
  if (!both_atomic && !ordered(cell.write, who)) race("written", cell.write, "written", at, bytes, who);
  for (Access& earlier : cell.reads) {
    if (!ordered(earlier, who)) race("read", earlier, "written", at, bytes, who);
    earlier = Access();  // who is unordered with it is unordered with this write, or comes after both
  }
  if (who.proxy) check_proxy(cell, at, bytes, who);
  cell.write = who.access;
  cell.state =
      static_cast<std::uint8_t>(Cell::kTracked | (after == After::kWritten ? Cell::kWritten : Cell::kOnTheWay) |
                                (who.atomic ? Cell::kAtomic : 0) | (who.proxy ? Cell::kProxy : 0));
}

void Checker::race(const char* earlier, const Access& before, const char* later, std::uintptr_t at, std::size_t bytes,
                   const Doer& who) {
  find({"race: " + place(at) + " (" + std::to_string(bytes) + " bytes) is " + later + " by " +
            describe_thread(who.access.block, who.access.lane()) + " and was " + earlier + " by " +
            describe_thread(before.block, before.lane()) + ", and no barrier orders them: it is " + later,
        who.access.site, before.site});
}

void Checker::check_proxy(const Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who) {
  const Access& before = cell.write;
  if ((cell.state & Cell::kProxy) != 0 || before.site == 0 || before.grid != grid_) return;
  if (clocks_[who.slot].is_fenced(before.lane(), before.clock())) return;
  find({"no fence: " + place(at) + " (" + std::to_string(bytes) + " bytes), which block and thread " +
            describe_thread(before.block, before.lane()) +
            " has written by an ordinary store, is used by wgmma or a tensor copy of " +
            describe_thread(who.access.block, who.access.lane()) +
            ", and the writer has no fence.proxy.async in between: it is used",
        who.access.site, before.site});
}

void Checker::unwritten(const Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who) {
  const char* const why = (cell.state & Cell::kOnTheWay) != 0 ? "before the wait for the copy that brings it"
                                                              : "before anything has written it";
  find({"unwritten: " + place(at) + " (" + std::to_string(bytes) + " bytes) is read " + why + " by " +
            describe_thread(who.access.block, who.access.lane()),
        who.access.site, (cell.state & Cell::kOnTheWay) != 0 ? cell.write.site : 0});
}

void Checker::find(Finding finding) {
  if (findings_.size() >= kMostFindings) return;
  if (!known_.insert({finding.site, finding.other_site}).second) return;
  findings_.push_back(std::move(finding));
}

std::string Checker::place(std::uintptr_t at) const {
  const void* const p = reinterpret_cast<const void*>(at);
  const Region shared = shared_region(p);
  if (shared.bytes == 0) return describe_memory(p);
  const auto offset = at - reinterpret_cast<std::uintptr_t>(shared.begin);
  return "byte " + std::to_string(offset) + " of " + std::to_string(shared.bytes) + " of shared memory";
}

}  // namespace ag::emu
