// SPDX-License-Identifier: Apache-2.0
// The instruction sets that the cpu backend was compiled for and this processor has, those for products of pairs
// included ("AMX", "AVX512_BF16": AVX512 with another product, for the types that it serves). The best one is used;
// tests force each in turn.
#pragma once

#include <string>
#include <vector>

namespace ag {

// Best first, "scalar" last.
std::vector<std::string> cpu_targets();

// Use this one from now on, in the whole process; "" is the best again. kArgument when it is not in cpu_targets().
void force_cpu_target(const std::string& name);

}  // namespace ag
