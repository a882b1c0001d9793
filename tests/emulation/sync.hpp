// SPDX-License-Identifier: Apache-2.0
// Barriers and warp collectives, as the headers of device/ and the PTX runner call them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "emu.hpp"

namespace ag::emu {

// What the last lane to arrive sees: the arguments of those that take part, on their stacks.
struct Lanes {
  std::uint32_t arrived = 0;
  std::uint32_t first_thread = 0;  // of the warp in its block
  Site site;
  std::array<void*, 32> argument{};
  bool has(std::uint32_t lane) const { return (arrived >> lane & 1u) != 0; }
};

struct Collective {
  const char* name;
  void (*run)(Lanes&);     // once, on the last lane that arrives
  bool all_lanes = false;  // .aligned instructions: 32 lanes must take part
  bool orders_memory = false;
};

// Waits for the live lanes of `mask`; then run() has happened. `variant` has to be the same on all of them: the size of
// an operand, the parsed instruction. Fails the kernel when lanes disagree.
void arrive_collective(const Collective& op, std::uint32_t mask, void* argument, const void* variant, Site site);

// __syncthreads is id 0 and expects every thread of the block.
void arrive_barrier(std::uint32_t id, std::uint32_t expected, Site site);
void block_barrier(Site site);
// __syncthreads_count, _and, _or: how many threads gave true.
std::uint32_t block_count(bool predicate, Site site);

void sync_warp(std::uint32_t mask, Site site);
std::uint32_t ballot(std::uint32_t mask, bool predicate, Site site);
std::uint32_t active_mask();

enum class ShuffleMode { kIndex, kUp, kDown, kXor };
// `value` is replaced by the source lane's.
void shuffle(ShuffleMode mode, std::uint32_t mask, void* value, std::size_t bytes, std::uint32_t lane, int width,
             Site site);

enum class Reduction { kAdd, kMin, kMax, kAnd, kOr, kXor };
std::uint32_t reduce(Reduction operation, bool is_signed, std::uint32_t mask, std::uint32_t value, Site site);

// Lanes of the mask whose value is the same as this lane's; match_all: the mask when all are the same, else 0.
std::uint32_t match_any(std::uint32_t mask, std::uint64_t value, Site site);
std::uint32_t match_all(std::uint32_t mask, std::uint64_t value, Site site);

void yield_thread();                                         // __nanosleep
void before_atomic(const void* p, std::size_t bytes, Site);  // checks, hooks, perhaps lets another thread run first
void memory_fence();
long long thread_clock();

}  // namespace ag::emu
