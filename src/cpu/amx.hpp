// SPDX-License-Identifier: Apache-2.0
// AMX tiles: whether this process may use them, and the product by them.
#pragma once

#include <cstdint>

#include "kernels.hpp"

namespace ag::cpu {

// What has to be asked before a tile instruction is run. Tests inject refusals.
struct TileSystem {
  bool in_processor;             // CPUID: AMX-TILE and AMX-BF16
  std::uint64_t enabled_states;  // XCR0; 0 when it cannot be read
  long (*request)();             // permission from the kernel for this process: 0 when given
  bool (*product)();             // a small product that is right
};
TileSystem this_tile_system();

// "" when tiles work; the reason otherwise. `product` runs last, apart: in a process of its own, which an illegal
// instruction may kill.
const char* why_no_tiles(const TileSystem& system);

// Runs work() in a process that shares this one's memory, while this thread waits; whether it ended and returned true.
bool holds_apart(bool (*work)());

// The product by tiles, for rows of this dtype.
void use_tiles(Kernels<float>& table, DType dtype);

}  // namespace ag::cpu
