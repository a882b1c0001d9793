// SPDX-License-Identifier: Apache-2.0
// What a plan decides for CUDA devices that nobody has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/plan.hpp"

namespace ag {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

DeviceInfo gpu(std::size_t memory_gib = 80, int multiprocessors = 108) {
  DeviceInfo d;
  d.kind = "cuda";
  d.target = "invented";
  d.devices = {0};
  d.compute_capability = 80;
  d.multiprocessors = multiprocessors;
  d.memory_bytes = memory_gib << 30;
  d.shared_bytes = 163 << 10;
  return d;
}

PlanShape heads_of(std::int64_t query_heads, std::int64_t key_heads, std::int64_t n, double threshold) {
  PlanShape shape;
  shape.query_heads = query_heads;
  shape.key_heads = key_heads;
  shape.heads_per_key_head = static_cast<int>(query_heads / key_heads);
  shape.queries = shape.all_queries = shape.keys = n;
  shape.head_dim = 64;
  shape.dtype = DType::kF16;
  shape.selection.threshold = threshold;
  return shape;
}

PlanOptions streaming(std::size_t workspace_bytes = 0) {
  PlanOptions options;
  options.backend = "cuda_streaming";
  options.workspace_bytes = workspace_bytes;
  return options;
}

TEST(CudaPlan, HeadsThatShareKeysArePackedWhileTheyFit) {
  EXPECT_EQ(make_plan(heads_of(8, 2, 4096, 0.01), streaming(), gpu()).cuda.heads_per_chunk, 4);
  const Plan small = make_plan(heads_of(8, 2, 4096, 0.01), streaming(20 << 20), gpu());
  EXPECT_EQ(small.cuda.heads_per_chunk, 1);
  EXPECT_LE(small.cuda.queries_per_chunk, 4096);
}

TEST(CudaPlan, ChunksFitTheWorkspace) {
  for (const std::size_t mib : {1u, 16u, 256u, 4096u}) {
    for (const std::int64_t n : {1, 100, 8192, 1 << 20}) {
      for (const char* backend : {"cuda_streaming", "cuda_materialised"}) {
        PlanOptions options = streaming(mib << 20);
        options.backend = backend;
        const Plan plan = make_plan(heads_of(8, 8, n, 0.01), options, gpu());
        const std::int64_t rows = plan.cuda.heads_per_chunk * plan.cuda.queries_per_chunk;
        ASSERT_GE(rows, 1);
        std::int64_t least = plan.cuda.splits * plan.cuda.candidate_capacity * 8;  // what a row takes at least
        auto bytes = static_cast<std::int64_t>(mib << 20);
        if (plan.backend == "cuda_materialised") {
          least += 4 * n;
          bytes -= bytes / 8;  // cuBLAS's
        }
        if (rows > 1) {
          EXPECT_LE(plan.cuda.lanes * rows * least, bytes) << backend << " " << n;
        }
        if (plan.cuda.queries_per_chunk < n && plan.cuda.queries_per_chunk >= 128) {
          EXPECT_EQ(plan.cuda.queries_per_chunk % 128, 0);
        }
      }
    }
  }
}

TEST(CudaPlan, TheWorkspaceIsAShareOfTheDevice) {
  EXPECT_EQ(make_plan(heads_of(1, 1, 4096, 0.01), streaming(), gpu(8)).workspace_bytes, std::size_t{1} << 30);
  EXPECT_EQ(make_plan(heads_of(1, 1, 4096, 0.01), streaming(), gpu(80)).workspace_bytes, std::size_t{2} << 30);
  EXPECT_EQ(make_plan(heads_of(1, 1, 4096, 0.01), streaming(12345678), gpu(80)).workspace_bytes, 12345678u);
}

TEST(CudaPlan, KeysAreSplitWhenQueriesAreFew) {
  PlanShape few = heads_of(1, 1, 1 << 17, 0.01);
  few.queries = few.all_queries = 1;
  EXPECT_GE(make_plan(few, streaming(), gpu()).cuda.splits, 32);
  EXPECT_EQ(make_plan(heads_of(1, 1, 1 << 17, 0.01), streaming(), gpu()).cuda.splits, 1);
  few.keys = 500;
  EXPECT_EQ(make_plan(few, streaming(), gpu()).cuda.splits, 1) << "there is nothing to split";
}

TEST(CudaPlan, SplitsDoNotDependOnWhichRowsACallAsksFor) {
  PlanShape part = heads_of(1, 1, 1 << 17, 0.01);
  part.queries = 1;
  EXPECT_EQ(make_plan(part, streaming(), gpu()).cuda.splits, 1);
}

TEST(CudaPlan, SmallThresholdsTakeTwoPasses) {
  EXPECT_FALSE(make_plan(heads_of(1, 1, 8192, 0.01), streaming(), gpu()).cuda.two_passes);
  EXPECT_TRUE(make_plan(heads_of(1, 1, 8192, 0.0005), streaming(), gpu()).cuda.two_passes);
  EXPECT_FALSE(make_plan(heads_of(1, 1, 8192, 0.0), streaming(), gpu()).cuda.two_passes) << "every pair is kept";
}

TEST(CudaPlan, RowsHaveRoomForTheirCandidates) {
  EXPECT_GE(make_plan(heads_of(1, 1, 8192, 0.01), streaming(), gpu()).cuda.candidate_capacity, 104);
  EXPECT_EQ(make_plan(heads_of(1, 1, 50, 0.01), streaming(), gpu()).cuda.candidate_capacity, 50);
  EXPECT_EQ(make_plan(heads_of(1, 1, 8192, 0.0), streaming(), gpu()).cuda.candidate_capacity, 8192);
  PlanShape given = heads_of(1, 1, 8192, 0.01);
  given.given_logsumexp = true;
  EXPECT_EQ(make_plan(given, streaming(), gpu()).cuda.candidate_capacity, 8192);
}

TEST(CudaPlan, DevicesAreThoseAskedForOrThatOfTheInput) {
  DeviceInfo three = gpu();
  three.devices = {0, 2, 3};
  PlanShape shape = heads_of(8, 8, 4096, 0.01);
  EXPECT_THAT(make_plan(shape, streaming(), three).cuda.devices, ElementsAre(0, 2, 3));
  shape.memory_device = 2;
  EXPECT_THAT(make_plan(shape, streaming(), three).cuda.devices, ElementsAre(2));
  PlanOptions third = streaming();
  third.device = 3;
  shape.memory_device = -1;
  EXPECT_THAT(make_plan(shape, third, three).cuda.devices, ElementsAre(3));
}

TEST(CudaPlan, PrintsItself) {
  PlanShape shape = heads_of(8, 2, 4096, 0.01);
  DeviceInfo two = gpu();
  two.devices = {0, 1};
  const std::string text = describe(make_plan(shape, streaming(), two), shape);
  for (const char* part : {"cuda_streaming (invented)", "devices             0, 1", "one pass",
                           "4 heads x 4096 queries", "candidates", "MiB"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, ::testing::Not(HasSubstr("threads")));
  shape.head_dim = 0;
  EXPECT_THAT(describe(make_plan(shape, streaming(), two), shape), HasSubstr("exact comparison"));
}

}  // namespace
}  // namespace ag
