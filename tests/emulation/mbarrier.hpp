// SPDX-License-Identifier: Apache-2.0
// mbarriers of a block, and the tensor copies that complete on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "emu.hpp"
#include "tensor_map.hpp"

namespace ag::emu {

struct Thread;

struct MBarrier {
  std::uint32_t count = 0;    // arrivals that end a phase
  std::uint32_t pending = 0;  // of this phase
  std::int64_t bytes = 0;     // expected and not yet arrived
  std::uint64_t phase = 0;    // phases that have ended
  std::vector<Thread*> waiting;
  std::uint32_t initialised_by = 0;
  bool proxy_knows = false;  // a fence has shown it to the asynchronous proxy
};

// A box of a tensor on its way to shared memory.
struct TensorCopy {
  TensorMap map;               // the kernel's parameter ends with its thread here
  std::int32_t place[5] = {};  // of its first element
  std::byte* shared = nullptr;
  void* mbarrier = nullptr;
  std::uint32_t thread = 0;  // that issued it
  Site site;
};

struct MBarriers {
  std::unordered_map<void*, MBarrier> live;
  std::deque<TensorCopy> on_the_way;
  void clear() {
    live.clear();
    on_the_way.clear();
  }
};

}  // namespace ag::emu
