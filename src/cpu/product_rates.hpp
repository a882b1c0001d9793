// SPDX-License-Identifier: Apache-2.0
// How fast each way of multiplying is here, with all threads of this process: a few milliseconds at first use, kept for
// the process. Only where there is a choice: a processor with AMX (docs/benchmarks.md).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "../core/dtype.hpp"
#include "../plan/plan.hpp"
#include "kernels.hpp"

namespace ag::cpu {

// A piece of work: makes some scores and says how many.
using Work = std::function<double()>;

// Keys of one strip, over which some blocks of rows pass, as in a task: product, largest score, sum.
Work strip_work(const Kernels<float>& kernel, std::int64_t head_dim);

struct Contender {
  Product product = Product::kFloat;
  std::function<Work()> prepare;  // called by each thread, for data of its own
};

using Seconds = double (*)();  // a clock
double steady_seconds();

// Scores a second of `threads` threads, by Product, 0 for who did not take part: the best of three looks at each, in
// turn, so that other work on the machine disturbs all alike. Fewer threads when the system has no more; empty when
// there is no memory for it.
std::vector<double> measure_rates(std::span<const Contender> contenders, int threads, Seconds now = steady_seconds);

// Of this process, for inputs of this type and head size; empty where there is no choice, or the environment forbids to
// measure (ATTNGRAPH_PAIR_PRODUCTS=table). Any thread; one measures, others wait. A fork waits, too.
std::vector<double> product_rates(DType dtype, std::int64_t head_dim, int threads);

}  // namespace ag::cpu
