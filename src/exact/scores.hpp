// SPDX-License-Identifier: Apache-2.0
// q . k in double, a vector at a time: what decides all but a few of the pairs that single precision left open.
#pragma once

#include <cstdint>

#include "../core/dtype.hpp"

namespace ag::exact {

struct DotAndSize {
  double dot;
  double size;  // sum of |q_d k_d|
};

// The key's d values lie side by side.
DotAndSize dot_in_double(const double* query, const void* key, DType dtype, std::int64_t d);

}  // namespace ag::exact
