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
        const int block = registers == 32 ? 12 : 6;
        EXPECT_EQ(plan.rows_per_task % block, 0);
        EXPECT_TRUE(plan.rows_per_task == block || 9 * n >= 8 * threads * plan.rows_per_task)
            << n << " rows, " << threads << " threads: " << plan.rows_per_task;
      }
    }
  }
}

TEST(Plan, TheReferenceRunsOnOneThreadWhateverIsAsked) {
  const PlanShape shape = heads_of(9, 8192, 64, 0.01);
  const Plan plan = make_plan(shape, {"reference", 8}, device(64));
  EXPECT_EQ(plan.threads, 1);
  EXPECT_LT(plan.workspace_bytes, std::size_t{6} << 20) << "a key head in double";
  EXPECT_GT(plan.workspace_bytes, std::size_t{4} << 20);
  const std::string text = describe(plan, shape);
  EXPECT_THAT(text, HasSubstr("threads             1"));
  EXPECT_THAT(text, HasSubstr("plain loops"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("tasks")));
}

TEST(Plan, SmallProblemsStartNoMoreThreadsThanTheyAreWorth) {
  const auto threads = [](const PlanShape& shape, int asked = 0) {
    return make_plan(shape, {"cpu", asked}, device(64)).threads;
  };
  EXPECT_EQ(threads(heads_of(1, 256, 64, 0.01)), 1);
  EXPECT_EQ(threads(heads_of(9, 8192, 64, 0.01)), 64);
  const int middle = threads(heads_of(1, 2048, 64, 0.01));
  EXPECT_GT(middle, 4);
  EXPECT_LT(middle, 32);
  PlanShape shape = heads_of(1, 2048, 64, 0.01);
  shape.window = 16;
  EXPECT_EQ(threads(shape), 1) << "few keys a row";
  shape = heads_of(1, 0, 64, 0.01);
  EXPECT_EQ(threads(shape), 1);
  EXPECT_EQ(threads(heads_of(1, 256, 64, 0.01), 3), 3) << "who asks gets them";
  EXPECT_EQ(make_plan(heads_of(1, 1 << 20, 64, 0.01), {"cpu", 0}, device(2)).threads, 2) << "half of four cores, say";
}

TEST(Plan, SaysHowManyThreadsAndWhy) {
  const PlanShape small = heads_of(1, 1024, 64, 0.01), large = heads_of(9, 8192, 64, 0.01);
  const Plan few = make_plan(small, {"cpu"}, device(16));
  EXPECT_GT(few.threads, 1);
  EXPECT_LT(few.threads, 16);
  EXPECT_THAT(few.threads_reason, HasSubstr("of 16: another would not save twice what it costs"));
  EXPECT_THAT(make_plan(large, {"cpu"}, device(16)).threads_reason, HasSubstr("of 16: all"));
  EXPECT_THAT(make_plan(small, {"cpu", 16}, device(2)).threads_reason, HasSubstr("of 2: as asked"));
  EXPECT_THAT(describe(few, small), HasSubstr("threads             " + std::to_string(few.threads) + " of 16: "));
}

TEST(Plan, AsManyKeyHeadsAreHeldAsKeepAllThreadsBusy) {
  EXPECT_EQ(make_plan(heads_of(64, 1024, 64, 0.01), {"cpu", 1}, device(64)).key_places, 1);
  EXPECT_EQ(make_plan(heads_of(9, 16384, 64, 0.01), {"cpu", 4}, device(64)).key_places, 2);
  const PlanShape many = heads_of(64, 1024, 64, 0.01);
  const Plan plan = make_plan(many, {"cpu", 64}, device(64));
  EXPECT_GE(plan.key_places * ((1024 + plan.rows_per_task - 1) / plan.rows_per_task), 2 * 64);
  EXPECT_THAT(describe(plan, many), HasSubstr("heads, " + std::to_string(plan.key_places) + " at a time"));
  for (const std::int64_t n : {512, 4096, 16384, 65536}) {
    const Plan bounded = make_plan(heads_of(256, n, 128, 0.01), {"cpu", 256}, device(256));
    EXPECT_LE(bounded.key_places * n * 128 * 4, std::int64_t{32} << 20) << n;
  }
}

TEST(Plan, PairProductsAreForTheTypesThatGainByThem) {
  DeviceInfo with = device(1);
  const auto product = [&](DType dtype, bool allowed = true) {
    PlanShape shape = heads_of(1, 1000, 64, 0.01);
    shape.dtype = dtype;
    PlanOptions options{"cpu", 1};
    options.pair_products = allowed;
    return make_plan(shape, options, with);
  };
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64})
    EXPECT_EQ(product(dtype).product, Product::kFloat) << "the device has none";
  with.product = Product::kAvx512Bf16;
  EXPECT_EQ(product(DType::kBF16).product, Product::kAvx512Bf16);
  EXPECT_EQ(product(DType::kBF16).target, "AVX512_BF16");
  EXPECT_EQ(product(DType::kBF16, false).product, Product::kFloat);
  EXPECT_EQ(product(DType::kBF16, false).target, "invented");
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kF64}) EXPECT_EQ(product(dtype).product, Product::kFloat);
  with.product = Product::kAmx;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(product(dtype).product, Product::kAmx);
    EXPECT_EQ(product(dtype).rows_per_task % 16, 0);
  }
  EXPECT_EQ(product(DType::kF64).product, Product::kFloat);
  EXPECT_GT(product(DType::kF32).workspace_bytes, product(DType::kBF16).workspace_bytes) << "three parts, not one";
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
    for (const std::int64_t d : {64, 128, 512, 1024}) {
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
