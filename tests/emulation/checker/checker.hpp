// SPDX-License-Identifier: Apache-2.0
// Races and reads of memory that nobody has written, in one run of any schedule. Kernels are compiled with
// -fsanitize=thread, and the calls that the compiler inserts end here instead of in ThreadSanitizer (entry.cpp).
//
// Two accesses to one place race when one writes, not both are atomic, and no __syncthreads, named barrier or
// __syncwarp orders their threads. Blocks of a grid are never ordered; grids are, by their streams. A shuffle orders
// nothing. An mbarrier orders what comes before arrivals, and the copies that complete on it, with what comes after a
// wait. What ordinary stores have written to shared memory, wgmma and tensor copies see after a fence.proxy.async of
// the thread that wrote it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../emu.hpp"
#include "clocks.hpp"
#include "shadow.hpp"
#include "sites.hpp"

namespace ag::emu {

class Checker final : public Hooks {
 public:
  static Checker& get();

  // By instrumented code of the running kernel thread.
  void touch(const void* p, std::size_t bytes, bool write, const void* return_address);

  void grid_begin(const LaunchConfig& config, std::uint64_t grid) override;
  void grid_end(std::uint64_t grid) override;
  void block_begin(const ThreadIdentity& first, std::uint32_t threads) override;
  void shared_begin(const ThreadIdentity&, Region region) override;
  void shared_end(const ThreadIdentity&, Region region) override;
  void join(Join, std::span<const std::uint32_t> threads) override;
  void access(std::uint32_t thread, const void* p, std::size_t bytes, bool write, bool atomic, Site site) override;
  void copy_issued(std::uint32_t thread, const void* shared, std::size_t bytes, Site site) override;
  void copy_arrived(std::uint32_t thread, const void* shared, std::size_t bytes, Site site) override;
  void proxy_fence(std::uint32_t thread) override;
  void proxy_access(std::uint32_t thread, const void* p, std::size_t bytes, bool write, Site site) override;
  void proxy_arrived(std::uint32_t thread, const void* shared, std::size_t bytes, Site site) override;
  void mbarrier_arrive(std::uint32_t thread, const void* mbarrier) override;
  void mbarrier_complete(const void* mbarrier) override;
  void mbarrier_wait(std::uint32_t thread, const void* mbarrier) override;
  void memory_begin(const Memory::Allocation& allocation) override;
  void memory_end(const Memory::Allocation& allocation) override;
  void memory_written(const void* p, std::size_t bytes) override;
  void memory_copied(const void* to, const void* from, std::size_t bytes) override;

 private:
  struct Doer {  // of an access: who, when, where
    Access access;
    std::uint32_t slot = 0;
    bool atomic = false;
    bool proxy = false;  // the asynchronous one: wgmma, tensor copies
  };
  struct Phases {
    Clocks::Seen now, before;  // of the phase that goes on, of those that have ended
  };
  struct Finding {
    std::string text;  // but for the places
    std::uint32_t site = 0, other_site = 0;
  };
  enum class After : std::uint8_t { kWritten, kOnTheWay };

  Doer doer(std::uint32_t thread, std::uint32_t site, bool atomic) const;
  void visit(const void* p, std::size_t bytes, bool write, const Doer& who, After after = After::kWritten);
  void read(Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who);
  void write(Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who, After after);
  bool ordered(const Access& before, const Doer& who) const;
  void race(const char* earlier, const Access& before, const char* later, std::uintptr_t at, std::size_t bytes,
            const Doer& who);
  void check_proxy(const Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who);
  void unwritten(const Cell& cell, std::uintptr_t at, std::size_t bytes, const Doer& who);
  void find(Finding finding);
  std::string place(std::uintptr_t at) const;

  Shadow shadow_;
  Sites sites_;
  std::vector<Clocks> clocks_;  // by slot
  std::map<const void*, Phases> mbarriers_;
  std::string kernel_;
  std::uint32_t grid_ = 0;
  std::vector<Finding> findings_;  // of this grid: named when it has ended, for that takes time and stack
  std::set<std::pair<std::uint32_t, std::uint32_t>> known_;
};

// True on the thread that runs a grid.
extern thread_local bool t_checks __attribute__((tls_model("initial-exec")));

}  // namespace ag::emu
