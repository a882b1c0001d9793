// SPDX-License-Identifier: Apache-2.0
// What the sm_90a kernels are told.
#pragma once

#include <cstdint>

#include "../streaming/arguments.hpp"

namespace ag::cuda {

struct WgmmaArguments : StreamingArguments {
  std::int32_t row_tiles = 0;         // of the longest chunk
  std::int32_t items = 0;             // of all chunks
  std::int32_t* next_item = nullptr;  // items that blocks have taken beyond their first; 0 at the launch
};

}  // namespace ag::cuda
