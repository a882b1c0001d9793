// SPDX-License-Identifier: Apache-2.0
#include "tasks.hpp"

#include <algorithm>

#include "../core/checked.hpp"

namespace ag {
namespace {

// A list that nobody wants to hold: 48 bytes each.
constexpr std::int64_t kMostTasks = std::int64_t{1} << 22;

// Sum of clamp(i + shift, 0, most) over i in [0, count).
std::int64_t clamped_sum(std::int64_t count, std::int64_t shift, std::int64_t most) {
  // From the first i with a positive term to the first whose term is `most`; whole from there.
  const std::int64_t rising = std::clamp<std::int64_t>(1 - shift, 0, count);
  const std::int64_t whole = std::clamp<std::int64_t>(most - shift, rising, count);
  const std::int64_t n = whole - rising;  // at most `most`, so below 2^31
  return checked_add(n * (rising + shift) + n * (n - 1) / 2, checked_mul(count - whole, most, "the number of pairs"),
                     "the number of pairs");
}

// Pairs that the rules leave of queries [0, query_end) of one head, over the batch: the sum of MaskRules::range.
std::int64_t pairs_before(const Problem& problem, std::int64_t query_end) {
  const MaskRules& mask = problem.mask;
  std::int64_t pairs = 0;
  for (std::int64_t b = 0; b < problem.batch(); ++b) {
    const std::int64_t keys = mask.key_count(b, problem.keys());
    std::int64_t ends = 0, begins = 0;
    if (mask.causal) {
      ends = clamped_sum(query_end, mask.query_offset + 1, keys);
    } else if (mask.window > 0) {
      ends = clamped_sum(query_end, mask.query_offset + mask.window, keys);
    } else {
      ends = checked_mul(query_end, keys, "the number of pairs");
    }
    if (mask.window > 0) begins = clamped_sum(query_end, mask.query_offset - mask.window + 1, keys);
    pairs = checked_add(pairs, ends - begins, "the number of pairs");
  }
  return pairs;
}

// The smallest multiple of kTaskQueries after `begin` before which there are at least `wanted` pairs of one head.
std::int64_t cut_after(const Problem& problem, std::int64_t begin, std::int64_t wanted) {
  std::int64_t low = begin / kTaskQueries + 1;
  std::int64_t high = (problem.query_end + kTaskQueries - 1) / kTaskQueries;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (pairs_before(problem, std::min(middle * kTaskQueries, problem.query_end)) >= wanted) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return std::min(low * kTaskQueries, problem.query_end);
}

}  // namespace

std::vector<Task> plan_tasks(const Problem& problem, std::int64_t most_pairs) {
  std::vector<Task> tasks;
  if (problem.query_end == problem.query_begin) return tasks;
  const std::int64_t before = pairs_before(problem, problem.query_begin);
  const std::int64_t of_head = pairs_before(problem, problem.query_end) - before;
  for (std::size_t head = 0; head < problem.heads.size();) {
    std::size_t end = head + 1;
    while (end < problem.heads.size() &&
           problem.key_head_of(problem.heads[end]) == problem.key_head_of(problem.heads[head])) {
      ++end;
    }
    const auto heads = static_cast<std::int64_t>(end - head);
    const std::int64_t all = checked_mul(heads, of_head, "the number of pairs");
    if (!tasks.empty() && tasks.back().query_begin == problem.query_begin &&
        tasks.back().query_end == problem.query_end && all <= most_pairs - tasks.back().pairs) {
      tasks.back().head_end = end;
      tasks.back().pairs += all;
      head = end;
      continue;
    }
    const std::int64_t count = all / most_pairs + (all % most_pairs > 0 ? 1 : 0);
    const std::int64_t steps = (problem.query_end - problem.query_begin) / kTaskQueries + 1;
    if (static_cast<std::int64_t>(tasks.size()) + std::min(count, steps) > kMostTasks) {
      fail(Status::kLimit, "there would be more than {} tasks of {} pairs; give a task more", kMostTasks, most_pairs);
    }
    std::int64_t begin = problem.query_begin;
    for (std::int64_t n = 1; begin < problem.query_end; ++n) {
      // of_head * n / count without the product, which may be too large.
      const std::int64_t share = n < count ? of_head / count * n + of_head % count * n / count : of_head;
      const std::int64_t cut = n < count ? cut_after(problem, begin, before + share) : problem.query_end;
      const std::int64_t pairs = pairs_before(problem, cut) - pairs_before(problem, begin);
      tasks.push_back({head, end, begin, cut, heads * pairs});
      begin = cut;
    }
    head = end;
  }
  return tasks;
}

}  // namespace ag
