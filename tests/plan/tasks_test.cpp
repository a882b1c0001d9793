// SPDX-License-Identifier: Apache-2.0
// The list of tasks: complete, without overlap, of even cost, and counted as the mask rules say.
#include "plan/tasks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/error.hpp"

namespace ag {
namespace {

// Shapes only: a plan reads no tensor.
Problem problem_of(std::int64_t batch, std::int64_t heads, std::int64_t key_heads, std::int64_t queries,
                   std::int64_t keys) {
  Problem p;
  p.q.shape = {batch, heads, queries, 64};
  p.k.shape = {batch, key_heads, keys, 64};
  p.heads.resize(static_cast<std::size_t>(heads));
  std::iota(p.heads.begin(), p.heads.end(), 0);
  p.query_end = queries;
  p.mask.query_offset = keys - queries;
  return p;
}

std::int64_t counted_pairs(const Problem& p, const Task& t) {
  std::int64_t pairs = 0;
  for (std::int64_t b = 0; b < p.batch(); ++b)
    for (std::int64_t i = t.query_begin; i < t.query_end; ++i) pairs += p.mask.range(b, i, p.keys()).size();
  return pairs * static_cast<std::int64_t>(t.head_end - t.head_begin);
}

void expect_partition(const Problem& p, const std::vector<Task>& tasks) {
  std::size_t head = 0;
  std::int64_t query = p.query_begin;
  for (const Task& t : tasks) {
    ASSERT_EQ(t.head_begin, head);
    ASSERT_EQ(t.query_begin, query);
    ASSERT_GT(t.query_end, t.query_begin);
    query = t.query_end == p.query_end ? p.query_begin : t.query_end;
    if (t.query_end == p.query_end) head = t.head_end;
  }
  EXPECT_EQ(head, p.heads.size());
  EXPECT_EQ(query, p.query_begin);
}

TEST(Tasks, CoverEveryRowOnceAndCountThePairsThatTheRulesLeave) {
  for (const bool causal : {false, true}) {
    for (const std::int64_t window : {0, 1, 100, 5000}) {
      for (const std::int64_t offset : {-500, 0, 700, 100000}) {
        for (const std::int64_t most : {1, 20000, 1000000, 1 << 30}) {
          Problem p = problem_of(2, 6, 2, 1500, 2100);
          p.mask.causal = causal;
          p.mask.window = window;
          p.mask.query_offset = offset;
          p.mask.key_lengths = {2100, 900};
          p.query_begin = 100;
          p.query_end = 1400;
          const std::vector<Task> tasks = plan_tasks(p, most);
          expect_partition(p, tasks);
          for (const Task& t : tasks) EXPECT_EQ(t.pairs, counted_pairs(p, t)) << causal << window << ' ' << offset;
        }
      }
    }
  }
}

TEST(Tasks, AreOfEvenCostAndBeginWhereKernelsBegin) {
  Problem p = problem_of(1, 4, 2, 131072, 131072);
  p.mask.causal = true;
  const std::int64_t most = std::int64_t{1} << 31;
  const std::vector<Task> tasks = plan_tasks(p, most);
  expect_partition(p, tasks);
  EXPECT_GE(tasks.size(), 16U);
  std::int64_t least = tasks[0].pairs, largest = 0;
  for (const Task& t : tasks) {
    EXPECT_EQ(t.query_begin % kTaskQueries, 0);
    EXPECT_LE(t.pairs, most + 2 * kTaskQueries * p.keys());
    least = std::min(least, t.pairs);
    largest = std::max(largest, t.pairs);
  }
  EXPECT_LT(static_cast<double>(largest), 1.12 * static_cast<double>(least));
}

TEST(Tasks, KeepTheHeadsOfAKeyHeadTogetherAndPutSmallOnesTogether) {
  Problem p = problem_of(1, 8, 4, 1000, 1000);
  p.heads = {0, 1, 3, 6};
  std::vector<Task> tasks = plan_tasks(p, 1);
  EXPECT_EQ(tasks.size(), 9U) << "three key heads, three ranges each";
  tasks = plan_tasks(p, 3000000);
  ASSERT_EQ(tasks.size(), 2U);
  EXPECT_EQ(tasks[0].head_end, 3U) << "heads 0 and 1, and 3";
  EXPECT_EQ(tasks[0].pairs, 3000000);
  EXPECT_EQ(plan_tasks(p, 4000000).size(), 1U);
}

TEST(Tasks, EmptyProblemsHaveNone) {
  EXPECT_TRUE(plan_tasks(problem_of(1, 4, 4, 0, 100), 1000).empty());
  EXPECT_TRUE(plan_tasks(problem_of(1, 0, 0, 10, 100), 1000).empty());
  EXPECT_EQ(plan_tasks(problem_of(1, 2, 2, 10, 0), 1000).size(), 1U) << "rows without keys are rows of the answer";
}

TEST(Tasks, AreOfAnyLengthThatFits) {
  Problem p = problem_of(1, 1, 1, std::int64_t{1} << 30, std::int64_t{1} << 30);
  p.mask.causal = true;
  const std::vector<Task> tasks = plan_tasks(p, std::int64_t{1} << 50);
  expect_partition(p, tasks);
  p = problem_of(1, 1, 1, std::int64_t{1} << 31, std::int64_t{1} << 31);
  EXPECT_THROW(plan_tasks(p, 1), Error) << "more tasks than a list should hold";
  EXPECT_THROW(plan_tasks(problem_of(1, 1, 1, std::int64_t{1} << 40, std::int64_t{1} << 30), 1 << 30), Error);
}

}  // namespace
}  // namespace ag
