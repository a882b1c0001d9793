// SPDX-License-Identifier: Apache-2.0
// Which way of multiplying a process uses where it has a choice: AMX tiles are not always the faster one. A pure
// function of figures: those that the process measured at first use (src/cpu/product_rates.hpp), or those of a table.
#pragma once

#include <cstdint>
#include <string>

#include "plan.hpp"

namespace ag {

// What is measured: D of 64 stands for those up to 96, 128 for all others.
inline constexpr std::int64_t kMeasuredHeadDims[] = {64, 128};
constexpr bool is_wide(std::int64_t head_dim) { return head_dim > 96; }

struct ProductChoice {
  Product product = Product::kFloat;
  std::string reason;  // one line; empty where there was no choice
};

// For inputs of this type and head size, on this device. Never by the call's own number of threads: a call gives the
// same bits with any. A measurement overrules the table only where it is a tenth faster: two processes of one machine,
// whose figures differ a little, choose alike.
ProductChoice choose_product(DType dtype, std::int64_t head_dim, const DeviceInfo& device);

}  // namespace ag
