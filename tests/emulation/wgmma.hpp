// SPDX-License-Identifier: Apache-2.0
// Products of warpgroups that are on their way: a thread's part, and what its four warps have to agree on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "emu.hpp"

namespace ag::emu {

// What all threads of a warpgroup have to issue alike.
struct Product {
  std::uint64_t a = 0, b = 0;  // descriptors
  std::uint32_t columns = 0;   // N
  bool bf16 = false;
  bool add = false;  // D += A B, else D = A B
  Site site;
  bool same(const Product& other) const {
    return a == other.a && b == other.b && columns == other.columns && bf16 == other.bf16 && add == other.add;
  }
};

// The accumulators that a thread has given away. The variables hold NaN until the last product on them is done.
struct Accumulators {
  std::vector<float*> variables;
  std::vector<float> values;
  std::uint32_t products = 0;    // that have not been done
  std::uint64_t last_group = 0;  // of the newest one
  bool arrived = false;          // done, and waited for
};

struct Products {
  struct Issued {
    Product product;
    std::size_t accumulators = 0;  // index
    std::uint64_t group = 0;
  };
  std::deque<Issued> queue;  // not done yet
  std::vector<Accumulators> accumulators;
  std::uint64_t group = 0;       // that the next product joins
  std::uint64_t done_group = 0;  // groups below it have been waited for
  bool fenced = false;           // wgmma.fence since the registers were last the thread's own
  // Every thread of every block does it: a new deque would allocate.
  void clear() {
    queue.clear();
    accumulators.clear();
    group = done_group = 0;
    fenced = false;
  }
};

struct Warpgroup {
  std::deque<Product> issued;  // that not all four warps have done
  std::uint64_t first = 0;     // number of the first of them
  std::array<std::uint64_t, 4> done{};
};

// A variable that the running thread has given to a product and has not waited for. For the checker.
bool in_flight(const void* p, std::size_t bytes);

// What a thread of a kernel of so many threads, compiled for one block a multiprocessor, has before setmaxnreg.
std::uint32_t registers_at_launch(std::uint32_t threads);

}  // namespace ag::emu
