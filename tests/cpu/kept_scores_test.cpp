// SPDX-License-Identifier: Apache-2.0
// Scores that a task keeps for its second pass are those that it would make again: whatever fits, the answer is the
// same to the bit. Every instruction set.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/kept_scores.hpp"
#include "support/inputs.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

EdgeList with_room(const Problem& problem, std::int64_t bytes) {
  const Backend& cpu = find_backend("cpu");
  Plan plan = plan_for(cpu, problem, 2);
  EXPECT_GT(plan.kept_score_bytes, 0);
  if (bytes >= 0) plan.kept_score_bytes = bytes;
  CollectSink sink;
  Control control;
  sink.finish(cpu.extract(problem, plan, sink, control));
  return sink.take();
}

Case kept_case(const char* name) {
  return {.name = name,
          .dtype = DType::kF32,
          .query_heads = 2,
          .queries = 200,
          .keys = 1090,  // the last queries stand on both sides of a strip's end, for float and for double
          .head_dim = 8,
          .threshold = 0.01,
          .causal = true,
          .query_offset = 890,
          .stats = {.entropy = true, .columns = true, .distances = true}};
}

std::vector<Case> kept_cases() {
  std::vector<Case> all{kept_case("causal"),  kept_case("f64"),     kept_case("softcap and slopes"),
                        kept_case("mask"),    kept_case("windows"), kept_case("mass"),
                        kept_case("few keys")};
  all[1].dtype = DType::kF64;
  all[2].softcap = 5;
  all[2].alibi = {0.01, 0.002};
  all[3].mask = MaskKind::kAdditive;
  all[4].window = 300;
  all[5].threshold = 0;
  all[5].mass = 0.7;
  all[6].key_lengths = {30};
  return all;
}

TEST(KeptScores, AreThoseThatWouldBeMadeAgain) {
  for (const std::string& set : cpu_targets()) {
    const ForcedTarget forced({"cpu", set});
    for (const Case& c : kept_cases()) {
      const Inputs inputs(c);
      const Problem problem = inputs.problem();
      const EdgeList none = with_room(problem, 0);
      ASSERT_FALSE(none.slices.front().sums.received.empty());
      for (const std::int64_t bytes : {std::int64_t{50'000}, std::int64_t{-1}}) {
        SCOPED_TRACE(set + ", " + c.name + ", " + std::to_string(bytes) + " bytes");
        const EdgeList kept = with_room(problem, bytes);
        ASSERT_EQ(kept.keys, none.keys);
        ASSERT_EQ(kept.weights_f32, none.weights_f32);
        ASSERT_EQ(kept.rows.logsumexp, none.rows.logsumexp);
        for (std::size_t s = 0; s < none.slices.size(); ++s) {
          ASSERT_EQ(kept.slices[s].sums.received, none.slices[s].sums.received);
          ASSERT_EQ(kept.slices[s].sums.distances, none.slices[s].sums.distances);
        }
      }
    }
  }
}

TEST(KeptScores, AreTheFirstThatFit) {
  cpu::KeptScores<float> kept;
  kept.open(2, 5, 8, 100, 350);
  EXPECT_EQ(kept.find(0, 5), nullptr);
  float* const first = kept.add(0, 5);
  float* const second = kept.add(1, 7);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(second, first + 100);
  EXPECT_EQ(kept.find(0, 5), first);
  EXPECT_EQ(kept.find(1, 7), second);
  EXPECT_EQ(kept.find(1, 5), nullptr);
  EXPECT_NE(kept.add(1, 5), nullptr);
  EXPECT_EQ(kept.add(1, 6), nullptr) << "350 scores have no room for a fourth hundred";
  EXPECT_EQ(kept.find(1, 6), nullptr);
  kept.open(1, 0, 0, 100, 350);  // no strip at all
  EXPECT_EQ(kept.find(0, 0), nullptr);
  kept.open(1, 0, 2, 100, 0);
  EXPECT_EQ(kept.add(0, 1), nullptr);
}

}  // namespace
}  // namespace ag::test
