// SPDX-License-Identifier: Apache-2.0
// What `auto` expects of its two sides, and which it takes.
#include "plan/cost.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ag {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

DeviceInfo cores(int threads) {
  DeviceInfo d;
  d.target = "invented";
  d.threads = threads;
  d.vector_registers = 32;
  return d;
}

DeviceInfo hopper(bool has_context, bool has_started, std::vector<int> devices = {0}) {
  DeviceInfo d;
  d.kind = "cuda";
  d.target = "invented";
  d.devices = std::move(devices);
  d.multiprocessors = 132;
  d.compute_capability = 90;
  d.has_wgmma = true;
  d.memory_bytes = std::size_t{80} << 30;
  d.has_context = has_context;
  d.has_started = has_started;
  return d;
}

PlanShape attention_of(std::int64_t heads, std::int64_t n, bool causal, DType dtype = DType::kF16) {
  PlanShape shape;
  shape.query_heads = shape.key_heads = shape.all_key_heads = heads;
  shape.queries = shape.all_queries = shape.keys = n;
  shape.head_dim = 64;
  shape.dtype = dtype;
  shape.causal = causal;
  shape.selection.threshold = 0.01;
  shape.plain_products = true;
  return shape;
}

Cost on_cpu(const PlanShape& shape, int threads = 16) {
  return cost_of(make_plan(shape, {"cpu"}, cores(threads)), shape, cores(threads));
}
Cost on(const DeviceInfo& device, const PlanShape& shape, const char* backend = "cuda_streaming") {
  return cost_of(make_plan(shape, {backend}, device), shape, device);
}

bool takes_cuda(const PlanShape& shape, const DeviceInfo& device, int threads = 16) {
  double forgone = 0;
  return prefers_cuda(on_cpu(shape, threads), on(device, shape), forgone);
}

// As the command meets data/genesis-8k: 0.42 s with the CPU of an H100's machine, 0.49 s with the H100.
TEST(Cost, AShortCallDoesNotWaitForAContext) {
  const PlanShape genesis = attention_of(9, 8192, true);
  EXPECT_FALSE(takes_cuda(genesis, hopper(false, false)));
  EXPECT_TRUE(takes_cuda(genesis, hopper(true, true))) << "once it is there";
  EXPECT_TRUE(takes_cuda(genesis, hopper(false, false), 1)) << "a lone core would take longer than that";
  EXPECT_FALSE(takes_cuda(attention_of(12, 1024, true), hopper(true, false))) << "nor for the kernels to be loaded";
}

TEST(Cost, ALongCallGoesToTheDevice) {
  EXPECT_TRUE(takes_cuda(attention_of(16, 16384, false), hopper(false, false)));
  EXPECT_TRUE(takes_cuda(attention_of(16, 16384, true), hopper(true, true)));
  EXPECT_TRUE(takes_cuda(attention_of(1, 131072, true), hopper(false, false)));
}

TEST(Cost, AFewPairsAreSoonerDoneThanSent) {
  EXPECT_FALSE(takes_cuda(attention_of(1, 16, true), hopper(true, true), 1) &&
               on_cpu(attention_of(1, 16, true), 1).total() >= kTooShortToAsk);
  EXPECT_LT(on_cpu(attention_of(4, 128, true), 2).total(), kTooShortToAsk);
  EXPECT_GT(on_cpu(attention_of(9, 8192, true)).total(), kTooShortToAsk);
}

// A model's layers one by one: together they are worth a start, though none alone is.
TEST(Cost, ManyShortCallsPayForAStart) {
  const PlanShape layer = attention_of(9, 8192, true);
  const Cost cpu = on_cpu(layer), cuda = on(hopper(false, false), layer);
  double forgone = 0;
  int calls = 1;
  while (!prefers_cuda(cpu, cuda, forgone)) ASSERT_LT(++calls, 20);
  EXPECT_GT(calls, 2);
  EXPECT_LT(calls, 8);
  forgone = 0;
  const Cost slower{0, cpu.run * 2};
  for (int n = 0; n < 100; ++n) EXPECT_FALSE(prefers_cuda(cpu, slower, forgone));
  EXPECT_EQ(forgone, 0.0) << "nothing is lost by leaving a slower device alone";
}

TEST(Cost, IsMadeOfStartsBytesAndScores) {
  const PlanShape shape = attention_of(16, 16384, false);
  EXPECT_NEAR(on(hopper(false, false), shape).start, 0.297, 1e-9);
  EXPECT_NEAR(on(hopper(true, false), shape).start, 0.071, 1e-9);
  EXPECT_EQ(on(hopper(true, true), shape).start, 0);
  PlanShape there = shape;
  there.memory_device = 0;
  const double link = 2.0 * 16 * 16384 * 64 * 2 / 1e10;
  EXPECT_NEAR(on(hopper(true, true), shape).run - on(hopper(true, true), there).run, link, 1e-3);
  EXPECT_LT(on(hopper(true, true, {0, 1}), shape).run, on(hopper(true, true), shape).run);
  EXPECT_GT(on(hopper(true, true), shape, "cuda_materialised").run, on(hopper(true, true), shape).run);
  EXPECT_GT(on_cpu(shape, 4).run, 3 * on_cpu(shape, 16).run);
  // A ready matrix is read once: sending it costs more than that.
  PlanShape matrix = attention_of(8, 4096, false, DType::kF32);
  matrix.head_dim = 0;
  EXPECT_FALSE(takes_cuda(matrix, hopper(true, true)));
}

TEST(Cost, IsSaidInWords) {
  EXPECT_THAT(
      describe({0, 0.0714}, {0.297, 0.0132}, "cuda_streaming"),
      AllOf(HasSubstr("about 71 ms on the CPU"), HasSubstr("310 ms by cuda_streaming (297 ms of it to start)")));
  EXPECT_THAT(describe({0, 5.5}, {0, 0.0021}, "cuda_streaming"),
              AllOf(HasSubstr("about 5.5 s"), HasSubstr("2.1 ms by cuda_streaming")));
}

}  // namespace
}  // namespace ag
