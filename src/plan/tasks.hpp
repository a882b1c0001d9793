// SPDX-License-Identifier: Apache-2.0
// A problem cut into parts that any process can do alone. A pure function of shapes and mask rules: everybody who asks
// gets the same list, whoever does the work and however many of them there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../core/problem.hpp"

namespace ag {

// Query heads Problem::heads[head_begin, head_end) of all sequences of the batch, queries [query_begin, query_end).
struct Task {
  std::size_t head_begin = 0, head_end = 0;
  std::int64_t query_begin = 0, query_end = 0;
  std::int64_t pairs = 0;  // that causal, window and key lengths leave: what the task costs
};

// Ranges of queries begin at multiples of it: a multiple of the rows that the kernels work on at once, so that no such
// block is done twice.
inline constexpr std::int64_t kTaskQueries = 384;

// In the order of the answer. The heads of one key head stay together: they share its packed keys, and how precisely
// they are computed depends on all of them. Tasks of about most_pairs: a head group that has more is cut into ranges of
// queries with equally many, at most kTaskQueries queries more than that; small ones are put together.
std::vector<Task> plan_tasks(const Problem& problem, std::int64_t most_pairs);

}  // namespace ag
