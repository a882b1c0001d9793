// SPDX-License-Identifier: Apache-2.0
// What a plan decides for CUDA devices that nobody has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/cuda_rooms.hpp"
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
  d.multiprocessors = multiprocessors;
  d.memory_bytes = memory_gib << 30;
  return d;
}

PlanShape layer_of(std::int64_t query_heads, std::int64_t key_heads, std::int64_t n, double threshold) {
  PlanShape shape;
  shape.query_heads = query_heads;
  shape.key_heads = key_heads;
  shape.all_key_heads = key_heads;
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
  EXPECT_EQ(make_plan(layer_of(8, 2, 4096, 0.01), streaming(), gpu()).cuda.heads_per_chunk, 4);
  const Plan small = make_plan(layer_of(8, 2, 4096, 0.01), streaming(20 << 20), gpu());
  EXPECT_EQ(small.cuda.heads_per_chunk, 1);
  EXPECT_LE(small.cuda.queries_per_chunk, 4096);
}

std::int64_t rows_of(const Plan& plan) {
  return plan.cuda.chunks_per_batch * plan.cuda.heads_per_chunk * plan.cuda.queries_per_chunk;
}

TEST(CudaPlan, BatchesFitTheWorkspace) {
  for (const std::size_t mib : {1u, 16u, 256u, 4096u}) {
    for (const std::int64_t n : {1, 100, 8192, 1 << 20}) {
      for (const char* backend : {"cuda_streaming", "cuda_materialised"}) {
        PlanOptions options = streaming(mib << 20);
        options.backend = backend;
        const Plan plan = make_plan(layer_of(8, 8, n, 0.01), options, gpu());
        const std::int64_t rows = rows_of(plan);
        ASSERT_GE(rows, 1);
        // What a row takes at least: candidates, or scores.
        std::int64_t least = plan.cuda.counts_first ? 0 : plan.cuda.candidate_capacity * 8;
        auto bytes = static_cast<std::int64_t>(mib << 20);
        if (plan.kernel == Kernel::kCublas) {
          least += 4 * n;
          bytes -= bytes / 8;  // cuBLAS's
        }
        if (rows > 1) {
          EXPECT_LE(plan.cuda.lanes * rows * least, bytes) << backend << " " << n;
        }
        if (plan.cuda.queries_per_chunk < n && plan.cuda.queries_per_chunk >= 128) {
          EXPECT_EQ(plan.cuda.queries_per_chunk % 128, 0);
          EXPECT_EQ(plan.cuda.chunks_per_batch, 1);
        }
      }
    }
  }
}

// The benchmark's shapes, on 132 multiprocessors, inputs in device memory: one batch, every multiprocessor has work.
TEST(CudaPlan, ACallIsOneGrid) {
  const auto plan_of = [](std::int64_t heads, std::int64_t n, std::int64_t dim) {
    PlanShape shape = layer_of(heads, heads, n, 0.01);
    shape.head_dim = dim;
    shape.memory_device = 0;
    return make_plan(shape, streaming(), gpu(80, 132));
  };
  struct Row {
    std::int64_t heads, n, dim, blocks_per_multiprocessor;
  };
  for (const Row& row : {Row{16, 16384, 64, 15}, Row{16, 16384, 128, 15}, Row{32, 4096, 64, 7}, Row{32, 1024, 64, 1},
                         Row{512, 256, 64, 7}, Row{2, 65536, 64, 7}}) {
    const Plan plan = plan_of(row.heads, row.n, row.dim);
    EXPECT_EQ(plan.cuda.batches, 1) << row.heads << " heads of " << row.n;
    EXPECT_GE(plan.cuda.blocks / 132, row.blocks_per_multiprocessor) << row.heads << " heads of " << row.n;
    EXPECT_LE(plan.cuda.launches, 12);
  }
  const Plan one = plan_of(1, 1024, 64);
  EXPECT_GE(one.cuda.splits, 4) << "8 tiles of rows";
  const Plan long_rows = plan_of(1, 1 << 20, 64);
  EXPECT_GE(long_rows.cuda.blocks / 132, 3) << "every batch of several fills the device";
}

TEST(CudaPlan, InputsOfTheHostTravelWhileOthersCompute) {
  PlanShape shape = layer_of(16, 16, 16384, 0.01);
  EXPECT_EQ(make_plan(shape, streaming(), gpu()).cuda.batches, 4);
  shape.memory_device = 0;
  EXPECT_EQ(make_plan(shape, streaming(), gpu()).cuda.batches, 1);
  EXPECT_EQ(make_plan(layer_of(4, 4, 512, 0.01), streaming(), gpu()).cuda.batches, 1) << "too little to cut";
}

TEST(CudaPlan, TheWorkspaceIsAShareOfTheDevice) {
  EXPECT_EQ(make_plan(layer_of(1, 1, 4096, 0.01), streaming(), gpu(8)).workspace_bytes, std::size_t{1} << 30);
  EXPECT_EQ(make_plan(layer_of(1, 1, 4096, 0.01), streaming(), gpu(80)).workspace_bytes, std::size_t{2} << 30);
  EXPECT_EQ(make_plan(layer_of(1, 1, 4096, 0.01), streaming(12345678), gpu(80)).workspace_bytes, 12345678u);
}

TEST(CudaPlan, KeysAreSplitWhenQueriesAreFew) {
  PlanShape few = layer_of(1, 1, 1 << 17, 0.01);
  few.queries = few.all_queries = 1;
  EXPECT_GE(make_plan(few, streaming(), gpu()).cuda.splits, 32);
  EXPECT_EQ(make_plan(layer_of(1, 1, 1 << 17, 0.01), streaming(), gpu()).cuda.splits, 1);
  PlanShape heads = few;
  heads.query_heads = heads.key_heads = heads.all_key_heads = 256;
  EXPECT_EQ(make_plan(heads, streaming(), gpu()).cuda.splits, 1) << "heads fill the device together";
  few.keys = 200;
  EXPECT_EQ(make_plan(few, streaming(), gpu()).cuda.splits, 1) << "there is nothing to split";
}

TEST(CudaPlan, SplitsDoNotDependOnWhichRowsACallAsksFor) {
  PlanShape part = layer_of(1, 1, 1 << 17, 0.01);
  part.queries = 1;
  EXPECT_EQ(make_plan(part, streaming(), gpu()).cuda.splits, 1);
}

TEST(CudaPlan, RowsHaveRoomForTheirCandidates) {
  EXPECT_EQ(make_plan(layer_of(1, 1, 8192, 0.01), streaming(), gpu()).cuda.candidate_capacity, 110);
  EXPECT_EQ(make_plan(layer_of(1, 1, 50, 0.01), streaming(), gpu()).cuda.candidate_capacity, 50);
  const Plan dense = make_plan(layer_of(1, 1, 8192, 0.0), streaming(), gpu());
  EXPECT_EQ(dense.cuda.candidate_capacity, 8192);
  EXPECT_FALSE(dense.cuda.counts_first) << "every pair is kept: there is nothing to count";
}

TEST(CudaPlan, CandidatesWithoutABoundAreCountedFirst) {
  const auto counts = [](const PlanShape& shape) { return make_plan(shape, streaming(), gpu()).cuda.counts_first; };
  EXPECT_FALSE(counts(layer_of(8, 8, 8192, 0.01)));
  EXPECT_FALSE(counts(layer_of(8, 8, 8192, 0.001)));
  PlanShape given = layer_of(8, 8, 8192, 0.01);
  given.given_logsumexp = true;
  EXPECT_TRUE(counts(given));
  // A bound that leaves too few rows for the device: 131,072 keys of which mass may need all.
  PlanShape mass = layer_of(1, 1, 1 << 17, 0.0);
  mass.selection.mass = 0.9;
  EXPECT_TRUE(counts(mass));
}

TEST(CudaPlan, TopKFillsTheDevice) {
  PlanShape top = layer_of(1, 1, 1 << 17, 0.0);
  top.memory_device = 0;
  top.selection.top_k = 32;
  const Plan plan = make_plan(top, streaming(), gpu(80, 132));
  EXPECT_TRUE(plan.cuda.counts_first);
  EXPECT_TRUE(plan.cuda.bounds_top_k);
  EXPECT_GE(plan.cuda.blocks, 132);
  top.selection.threshold = 0.01;
  const Plan bounded = make_plan(top, streaming(), gpu(80, 132));
  EXPECT_FALSE(bounded.cuda.counts_first);
  EXPECT_FALSE(bounded.cuda.bounds_top_k) << "the threshold leaves at most 100";
  top.keys = top.queries = top.all_queries = 1 << 20;
  top.selection.threshold = 0;
  EXPECT_GE(make_plan(top, streaming(), gpu(80, 132)).cuda.blocks, 132);
}

TEST(CudaPlan, TheKernelIsNamed) {
  PlanShape shape = layer_of(4, 4, 4096, 0.01);
  EXPECT_EQ(make_plan(shape, streaming(), gpu()).kernel, Kernel::kMmaSync);
  PlanOptions textbook = streaming();
  textbook.backend = "cuda_materialised";
  EXPECT_EQ(make_plan(shape, textbook, gpu()).kernel, Kernel::kCublas);
  shape.head_dim = 320;
  const Plan large = make_plan(shape, streaming(), gpu());
  EXPECT_EQ(large.kernel, Kernel::kRowsF64) << "larger than every instance";
  EXPECT_THAT(describe(large, shape), HasSubstr("double precision"));
  EXPECT_EQ(make_plan(shape, textbook, gpu()).kernel, Kernel::kCublas);
  shape.head_dim = 64;
  shape.dtype = DType::kF64;
  EXPECT_EQ(make_plan(shape, streaming(), gpu()).kernel, Kernel::kRowsF64);
}

TEST(CudaPlan, WgmmaIsOfHopperAndOfPlainProducts) {
  DeviceInfo hopper = gpu(80, 132);
  hopper.compute_capability = 90;
  hopper.has_wgmma = true;
  PlanShape plain = layer_of(16, 4, 4096, 0.01);
  plain.plain_products = true;
  const auto kernel = [&](const PlanShape& shape, const DeviceInfo& device) {
    return make_plan(shape, streaming(), device).kernel;
  };
  EXPECT_EQ(kernel(plain, hopper), Kernel::kWgmma);
  EXPECT_EQ(make_plan(plain, streaming(), hopper).cuda.splits, 1);
  EXPECT_THAT(describe(make_plan(plain, streaming(), hopper), plain), HasSubstr("wgmma"));
  for (const int capability : {80, 89, 100, 120}) {
    DeviceInfo other = hopper;
    other.compute_capability = capability;
    EXPECT_EQ(kernel(plain, other), Kernel::kMmaSync) << capability;
  }
  DeviceInfo without = hopper;
  without.has_wgmma = false;
  EXPECT_EQ(kernel(plain, without), Kernel::kMmaSync) << "not built for sm_90a";

  const auto changed = [&](auto&& change) {
    PlanShape shape = plain;
    change(shape);
    return kernel(shape, hopper);
  };
  EXPECT_EQ(changed([](PlanShape& s) { s.plain_products = false; }), Kernel::kMmaSync);
  EXPECT_EQ(changed([](PlanShape& s) { s.stats.entropy = true; }), Kernel::kWgmma);
  EXPECT_EQ(changed([](PlanShape& s) { s.selection.top_k = 5; }), Kernel::kMmaSync);
  EXPECT_EQ(changed([](PlanShape& s) { s.head_dim = 128; }), Kernel::kWgmma);
  EXPECT_EQ(changed([](PlanShape& s) { s.head_dim = 136; }), Kernel::kMmaSync);
  EXPECT_EQ(changed([](PlanShape& s) { s.dtype = DType::kF32; }), Kernel::kWgmma);
  EXPECT_EQ(changed([](PlanShape& s) { s.dtype = DType::kF32, s.head_dim = 72; }), Kernel::kMmaSync);
  EXPECT_EQ(changed([](PlanShape& s) { s.dtype = DType::kF64; }), Kernel::kRowsF64);
  EXPECT_EQ(changed([](PlanShape& s) { s.causal = true, s.window = 100, s.sinks = true; }), Kernel::kWgmma);
}

TEST(CudaPlan, AFewRowsOfManyKeysAreSharedByBlocksOfMmaSync) {
  DeviceInfo hopper = gpu(80, 132);
  hopper.compute_capability = 90;
  hopper.has_wgmma = true;
  PlanShape shape = layer_of(8, 1, 1 << 20, 0.01);
  shape.plain_products = true;
  EXPECT_EQ(make_plan(shape, streaming(), hopper).kernel, Kernel::kWgmma);
  shape.queries = 16;
  EXPECT_EQ(make_plan(shape, streaming(), hopper).kernel, Kernel::kWgmma) << "a part of a call is as the whole";
  shape.all_queries = 16;
  EXPECT_EQ(make_plan(shape, streaming(), hopper).kernel, Kernel::kMmaSync);
  EXPECT_GT(make_plan(shape, streaming(), hopper).cuda.splits, 1);
}

TEST(CudaPlan, GroupsOfKeysAreMoreThanTheKeysThatAreWanted) {
  for (const std::int64_t keys : {1, 16, 1000, 1 << 20}) {
    for (const std::int64_t top_k : {1, 32, 1000}) {
      const KeyGroups groups = key_groups(keys, top_k, 1);
      EXPECT_GE(groups.count * 4 * groups.tiles, (keys + 15) / 16) << "all keys belong to one";
      EXPECT_TRUE(groups.tiles == 1 || groups.count >= 4 * top_k) << keys << ", top " << top_k;
      EXPECT_EQ(key_groups(keys, top_k, 4).tiles, 1);
    }
  }
}

TEST(CudaPlan, DevicesAreThoseAskedForOrThatOfTheInput) {
  DeviceInfo three = gpu();
  three.devices = {0, 2, 3};
  PlanShape shape = layer_of(8, 8, 4096, 0.01);
  EXPECT_THAT(make_plan(shape, streaming(), three).cuda.devices, ElementsAre(0, 2, 3));
  shape.memory_device = 2;
  EXPECT_THAT(make_plan(shape, streaming(), three).cuda.devices, ElementsAre(2));
  PlanOptions third = streaming();
  third.device = 3;
  shape.memory_device = -1;
  EXPECT_THAT(make_plan(shape, third, three).cuda.devices, ElementsAre(3));
}

TEST(CudaPlan, PrintsItself) {
  PlanShape shape = layer_of(8, 2, 4096, 0.01);
  DeviceInfo two = gpu();
  two.devices = {0, 1};
  const std::string text = describe(make_plan(shape, streaming(), two), shape);
  for (const char* part : {"cuda_streaming (invented)", "devices             0, 1", "two passes", "mma.sync", "batches",
                           "4 heads x 4096 queries", "candidates", "MiB"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, ::testing::Not(HasSubstr("threads")));
  shape.head_dim = 0;
  EXPECT_THAT(describe(make_plan(shape, streaming(), two), shape), HasSubstr("exact comparison"));
}

}  // namespace
}  // namespace ag
