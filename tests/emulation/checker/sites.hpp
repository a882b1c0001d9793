// SPDX-License-Identifier: Apache-2.0
// Places in the program as small numbers: a return address of instrumented code, or a line that the core has named.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../emu.hpp"

namespace ag::emu {

class Sites {
 public:
  static constexpr std::uint32_t kMany = 1u << 24;  // numbers are below

  std::uint32_t of(const void* return_address) {
    const auto key = reinterpret_cast<std::uintptr_t>(return_address);
    Cached& cached = cache_[(key ^ key >> 12) % kCached];
    if (cached.key != key) cached = {key, add(key)};
    return cached.number;
  }
  std::uint32_t of(Site site);

  // "cuda/streaming/tiles.cuh:57 (load_tile)".
  std::string text(std::uint32_t number);
  // The functions that the address is in, innermost first, inlined ones among them; empty for lines.
  std::string functions(std::uint32_t number);

 private:
  static constexpr std::size_t kCached = 4096;
  struct Cached {
    std::uintptr_t key = 0;
    std::uint32_t number = 0;
  };
  struct Place {
    std::uintptr_t address = 0;  // 0: a line
    Site line;
  };
  struct Named {
    std::string where, functions;
  };

  std::uint32_t add(std::uintptr_t address);
  const Named& name(std::uint32_t number);

  Cached cache_[kCached];
  std::unordered_map<std::uintptr_t, std::uint32_t> addresses_;
  std::unordered_map<std::uint64_t, std::uint32_t> lines_;
  std::vector<Place> places_ = {Place()};  // 0 is no place
  std::unordered_map<std::uint32_t, Named> names_;
};

}  // namespace ag::emu
