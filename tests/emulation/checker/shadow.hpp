// SPDX-License-Identifier: Apache-2.0
// What is remembered of every piece of shared and device memory: who touched it last, and whether it has been written.
// Pages of 4 KiB come into being when they are first touched; their cells are of 4 bytes until something smaller is
// touched in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

namespace ag::emu {

struct Access {
  std::uint32_t grid = 0;
  std::uint32_t block = 0;
  std::uint32_t thread = 0;  // thread << 22 | clock of that thread
  std::uint32_t site = 0;    // 0: none

  static constexpr std::uint32_t kClockBits = 22;
  std::uint32_t clock() const { return thread & ((1u << kClockBits) - 1); }
  std::uint32_t lane() const { return thread >> kClockBits; }
};

struct Cell {
  enum : std::uint8_t { kTracked = 1, kWritten = 2, kOnTheWay = 4, kAtomic = 8, kProxy = 16 };
  Access write;
  Access reads[2];  // by different threads: a writer is unordered with one of them if it is with any
  std::uint8_t state = 0;
  std::uint8_t write_bytes = 0;  // of the access that wrote, for reports
};

class Shadow {
 public:
  static constexpr std::uintptr_t kPageBytes = 4096;

  struct Page {
    unsigned shift = 2;  // log2 of a cell's bytes
    std::vector<Cell> cells;
    Cell& at(std::uintptr_t address) { return cells[(address % kPageBytes) >> shift]; }
  };

  Shadow() { forget_cache(); }

  // Memory to watch. `written`: it may be read from the first.
  void begin(const void* base, std::size_t bytes, bool written);
  void end(const void* base);
  // The host, or something that is no kernel, has written it, or has copied it with what it knows.
  void written(const void* base, std::size_t bytes);
  void copied(const void* to, const void* from, std::size_t bytes);

  // The page with cells as small as `fine` (0 or 2: log2) asks; null where nothing is watched.
  Page* page(std::uintptr_t address, unsigned fine) {
    Cached& cached = cache_[(address / kPageBytes) % kCached];
    if (cached.number != address / kPageBytes) cached = {address / kPageBytes, find_page(address / kPageBytes)};
    if (cached.page != nullptr && cached.page->shift > fine) split(*cached.page);
    return cached.page;
  }

 private:
  static constexpr std::size_t kCached = 4096;
  struct Cached {
    std::uintptr_t number = ~std::uintptr_t{0};
    Page* page = nullptr;
  };
  struct Region {
    std::size_t bytes = 0;
    std::vector<bool> written;  // as of before its pages came into being
  };

  Page* find_page(std::uintptr_t number);
  void fill(Page& page, std::uintptr_t number);
  static void split(Page& page);
  void forget_cache() { cache_.assign(kCached, Cached()); }
  bool is_written(std::uintptr_t address);

  std::vector<Cached> cache_;
  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
  std::map<std::uintptr_t, Region> regions_;
};

}  // namespace ag::emu
