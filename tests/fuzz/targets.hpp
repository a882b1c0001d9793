// SPDX-License-Identifier: Apache-2.0
// What bytes from outside may meet: each target takes any bytes, and only an ag::Error may come of them. A wrong answer
// ends the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ag::fuzz {

using Bytes = std::span<const std::uint8_t>;

struct Target {
  const char* name;
  void (*run)(Bytes);
  std::vector<std::string> (*seeds)();  // sound inputs to begin with
};

// tensor_file, graph_file, tokens, options
std::span<const Target> targets();

}  // namespace ag::fuzz
