// SPDX-License-Identifier: Apache-2.0
// Plans are pure: every decision is tested with invented shapes and devices.
#include "plan/plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace ag {
namespace {

using ::testing::HasSubstr;

DeviceInfo device(int threads, int registers = 32) {
  DeviceInfo d;
  d.target = "invented";
  d.threads = threads;
  d.vector_registers = registers;
  return d;
}

PlanShape heads_of(std::int64_t heads, std::int64_t n, std::int64_t d, double threshold) {
  PlanShape shape;
  shape.query_heads = shape.key_heads = heads;
  shape.queries = shape.keys = n;
  shape.head_dim = d;
  shape.selection.threshold = threshold;
  return shape;
}

TEST(Plan, ARowHasAtMostAsManyEdgesAsWeightsThatFitIntoOne) {
  EXPECT_EQ(make_plan(heads_of(1, 4096, 64, 0.01), {"cpu", 1}, device(1)).row_edges_bound, 100);
  EXPECT_EQ(make_plan(heads_of(1, 50, 64, 0.01), {"cpu", 1}, device(1)).row_edges_bound, 50) << "there are 50 keys";
  PlanShape top = heads_of(1, 4096, 64, 0.0);
  top.selection.top_k = 7;
  EXPECT_EQ(make_plan(top, {"cpu", 1}, device(1)).row_edges_bound, 7);
  const double tiny = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(make_plan(heads_of(1, 4096, 64, tiny), {"cpu", 1}, device(1)).row_edges_bound, 4096);
}

TEST(Plan, WeightsThatNeedNotSumToOneHaveNoBoundButTheKeys) {
  PlanShape given = heads_of(1, 4096, 64, 0.01);
  given.given_logsumexp = true;
  EXPECT_EQ(make_plan(given, {"cpu", 1}, device(1)).row_edges_bound, 4096);
  EXPECT_EQ(make_plan(heads_of(1, 4096, 0, 0.01), {"cpu", 1}, device(1)).row_edges_bound, 4096) << "a ready matrix";
}

TEST(Plan, MassBoundsTheCandidatesOnlyWhereWeightsSumToOne) {
  PlanShape shape = heads_of(1, 1000, 64, 0.0);
  shape.selection.mass = 0.9;
  EXPECT_NEAR(make_plan(shape, {"cpu", 1}, device(1)).candidate_threshold, 1e-4, 1e-12);
  shape.sinks = true;
  EXPECT_EQ(make_plan(shape, {"cpu", 1}, device(1)).candidate_threshold, 0.0);
  shape.selection.threshold = 0.2;
  EXPECT_EQ(make_plan(shape, {"cpu", 1}, device(1)).candidate_threshold, 0.2);
}

TEST(Plan, TasksAreWholeBlocksAndEnoughForAllThreads) {
  for (const int registers : {16, 32}) {
    for (const int threads : {1, 2, 64, 1000}) {
      for (const std::int64_t n : {1, 100, 8192, 131072}) {
        const Plan plan = make_plan(heads_of(9, n, 64, 0.01), {"cpu", threads}, device(1, registers));
        EXPECT_GT(plan.rows_per_task, 0);
        EXPECT_EQ(plan.rows_per_task % plan.rows_per_block, 0);
        EXPECT_TRUE(plan.rows_per_task == plan.rows_per_block || 9 * n >= 8 * threads * plan.rows_per_task)
            << n << " rows, " << threads << " threads: " << plan.rows_per_task;
      }
    }
  }
}

TEST(Plan, SumsOverQueriesFixTheTasksWhateverTheThreadsAndHeads) {
  PlanShape shape = heads_of(9, 1024, 64, 0.01);
  shape.stats.columns = true;
  const Plan one = make_plan(shape, {"cpu", 1}, device(1));
  shape.query_heads = shape.key_heads = 1;
  EXPECT_EQ(make_plan(shape, {"cpu", 64}, device(1)).rows_per_task, one.rows_per_task);
}

TEST(Plan, MemoryBesideInputAndAnswerStaysBelow128MiB) {
  for (const std::int64_t n : {1024, 131072, 1 << 20}) {
    for (const std::int64_t d : {64, 128, 512}) {
      for (const double threshold : {0.01, 1e-6}) {
        const Plan plan = make_plan(heads_of(1, n, d, threshold), {"cpu", 1}, device(1));
        EXPECT_LT(plan.workspace_bytes, std::size_t{128} << 20) << n << " " << d << " " << threshold;
      }
    }
  }
}

TEST(Plan, KeysArePackedAsFarAsMemoryAllows) {
  EXPECT_EQ(make_plan(heads_of(1, 8192, 64, 0.01), {"cpu", 1}, device(1)).pack, PackKeys::kWholeHead);
  EXPECT_EQ(make_plan(heads_of(1, 131072, 128, 0.01), {"cpu", 1}, device(1)).pack, PackKeys::kOneHead);
  EXPECT_EQ(make_plan(heads_of(1, 1 << 20, 128, 0.01), {"cpu", 1}, device(1)).pack, PackKeys::kPerTask);
}

TEST(Plan, DescribesItselfForABugReport) {
  PlanShape shape = heads_of(9, 1024, 64, 0.01);
  shape.causal = true;
  shape.window = 128;
  const std::string text = describe(make_plan(shape, {"cpu", 3}, device(2)), shape);
  for (const char* part :
       {"cpu (invented)", "Nq 1024", "D 64", "causal, window 128", "at most 100", "threads", "MiB"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

}  // namespace
}  // namespace ag
