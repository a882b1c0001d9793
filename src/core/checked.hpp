// SPDX-License-Identifier: Apache-2.0
// Arithmetic on sizes. Every size that comes from a file or a caller goes through these: a wrapped product is how
// loaders get broken.
#pragma once

#include <concepts>
#include <cstdint>

#include "error.hpp"

namespace ag {

template <std::integral T>
T checked_add(T a, T b, const char* what) {
  T sum;
  if (__builtin_add_overflow(a, b, &sum)) fail(Status::kLimit, "{} overflows: {} + {}", what, a, b);
  return sum;
}

template <std::integral T>
T checked_mul(T a, T b, const char* what) {
  T product;
  if (__builtin_mul_overflow(a, b, &product)) fail(Status::kLimit, "{} overflows: {} * {}", what, a, b);
  return product;
}

}  // namespace ag
