// SPDX-License-Identifier: Apache-2.0
// Products of pairs of bf16 values: how values are split, when pairs are used, and inputs that they could get wrong.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "cpu/pairs.hpp"
#include "support/compare.hpp"
#include "support/inputs.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/tensor.hpp"

namespace ag::test {
namespace {

float low_part(float pair) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(pair) << 16); }
float high_part(float pair) { return std::bit_cast<float>(std::bit_cast<std::uint32_t>(pair) & 0xFFFF0000u); }

TEST(Pairs, PartsAddUpToTheValueExactly) {
  Random random(1);
  std::vector<float> values = {0.0f,  -0.0f,  1.0f, -1.0f, 0x1.fffffep0f, 0x1.010101p-20f, 0x1.ff01ffp100f,
                               1e30f, -1e-30f};
  for (int n = 0; n < 10000; ++n)
    values.push_back(static_cast<float>(random.normal() * std::exp2(random.below(60) - 30)));
  for (const float x : values) {
    double low = 0, high = 0;
    for (int part = 0; part < 3; ++part) {
      const float pair = cpu::packed_pair(x, -x, part);
      low += double{low_part(pair)};
      high += double{high_part(pair)};
    }
    EXPECT_EQ(low, double{x});
    EXPECT_EQ(high, -double{x});
  }
}

TEST(Pairs, TwoPartsHoldEveryF16AndOneEveryBF16) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const double f16 = load_double(DType::kF16, reinterpret_cast<const std::byte*>(&half));
    if (std::isfinite(f16)) {
      const auto x = static_cast<float>(f16);
      ASSERT_EQ(double{low_part(cpu::packed_pair(x, 0, 0))} + double{low_part(cpu::packed_pair(x, 0, 1))}, f16);
    }
    const double bf16 = load_double(DType::kBF16, reinterpret_cast<const std::byte*>(&half));
    if (std::isfinite(bf16) && std::abs(bf16) < 1e30) {
      ASSERT_EQ(double{low_part(cpu::packed_pair(static_cast<float>(bf16), 0, 0))}, bf16);
    }
  }
}

// The target that answers a bf16 problem here; "" on machines without pairs.
std::string pair_target() {
  for (const std::string& target : cpu_targets()) {
    if (target == "AMX" || target == "AVX512_BF16") return target;
  }
  return "";
}

class PairsInUse : public ::testing::Test {
 protected:
  void SetUp() override {
    if (pair_target().empty()) GTEST_SKIP() << "this machine has neither AVX512_BF16 nor AMX";
  }
  static Case bf16_case() {
    return {.name = "bf16",
            .seed = 3,
            .dtype = DType::kBF16,
            .queries = 40,
            .keys = 900,
            .head_dim = 33,
            .causal = true,
            .query_offset = 860};
  }
};

TEST_F(PairsInUse, AreNamedAndCanBeTurnedOff) {
  const Inputs inputs(bf16_case());
  const Backend& cpu = find_backend("cpu");
  EXPECT_EQ(run_extract(cpu, inputs.problem()).report.target, pair_target());
  EXPECT_NE(describe(plan_for(cpu, inputs.problem()), shape_of(inputs.problem())).find(pair_target()),
            std::string::npos);

  PlanOptions options{.backend = "cpu", .threads = 1, .pair_products = false};
  EXPECT_EQ(make_plan(shape_of(inputs.problem()), options, cpu.device()).target, "AVX512");
  ASSERT_EQ(setenv("ATTNGRAPH_PAIR_PRODUCTS", "off", 1), 0);
  const EdgeList in_float = run_extract(cpu, inputs.problem());
  ASSERT_EQ(unsetenv("ATTNGRAPH_PAIR_PRODUCTS"), 0);
  EXPECT_EQ(in_float.report.target, "AVX512");
  expect_same_graph(run_extract(cpu, inputs.problem()), in_float, inputs.problem());
}

// Queries and keys of ordinary scores, one multiplied by 2^query and the other by 2^key, the scale making up for it:
// all of it exact, so the answer is the same wherever float or bf16 can hold the values.
void expect_as_reference(int query, int key, bool pairs) {
  SCOPED_TRACE(::testing::Message() << "queries by 2^" << query << ", keys by 2^" << key);
  constexpr std::int64_t kQueries = 24, kKeys = 900, kD = 33;
  Random random(4);
  std::vector<double> q = random.normals(kQueries * kD), k = random.normals(kKeys * kD);
  for (double& x : q) x = std::ldexp(2 * x, query);
  for (double& x : k) x = std::ldexp(x, key);
  const Tensor queries(DType::kBF16, {1, 1, kQueries, kD}, q), keys(DType::kBF16, {1, 1, kKeys, kD}, k);
  Problem problem;
  problem.q = queries.view();
  problem.k = keys.view();
  problem.heads = {0};
  problem.query_end = kQueries;
  problem.selection.threshold = 0.01;
  problem.scale = std::ldexp(0.25, -query - key);
  const EdgeList actual = run_extract(find_backend("cpu"), problem);
  ASSERT_GT(actual.edge_count(), 0);
  expect_same_graph(actual, run_extract(find_backend("reference"), problem), problem);
  // Pairs and float round differently: other bits tell which of the two answered.
  const EdgeList plain = [&] {
    const ForcedTarget forced({"cpu", "AVX512"});
    return run_extract(find_backend("cpu"), problem);
  }();
  EXPECT_EQ(actual.weights_f32 != plain.weights_f32, pairs);
}

TEST_F(PairsInUse, OrdinaryValuesAreMultipliedInPairs) {
  expect_as_reference(0, 0, true);
  expect_as_reference(20, -20, true);
  expect_as_reference(40, 40, true);
}

TEST_F(PairsInUse, SumsThatCouldOverflowAreMadeInFloat) { expect_as_reference(60, 60, false); }

TEST_F(PairsInUse, ValuesThatPairsTakeForZeroAreMultipliedInFloat) {
  expect_as_reference(0, -126, false);   // keys are subnormal
  expect_as_reference(-126, 0, false);   // queries are
  expect_as_reference(-60, -66, false);  // all are normal, their products are not
}

}  // namespace
}  // namespace ag::test
