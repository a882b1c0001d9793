// SPDX-License-Identifier: Apache-2.0
// What a process may find around it: little of a core, far too many threads, a fork.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <sstream>

#include "cpu/quota.hpp"
#include "support/compare.hpp"
#include "support/inputs.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

int threads_of(const char* cpu_max, int allowed) {
  std::istringstream text(cpu_max);
  return cpu::usable_threads(allowed, cpu::quota_cores(text));
}

TEST(Surroundings, AContainersQuotaBoundsTheThreads) {
  EXPECT_EQ(threads_of("max 100000", 8), 8);
  EXPECT_EQ(threads_of("50000 100000", 8), 1) << "half a core";
  EXPECT_EQ(threads_of("1000 100000", 8), 1) << "a hundredth of one";
  EXPECT_EQ(threads_of("150000 100000", 8), 2);
  EXPECT_EQ(threads_of("400000 100000\n", 8), 4);
  EXPECT_EQ(threads_of("400000 100000", 2), 2) << "affinity is less";
  EXPECT_EQ(threads_of("9000000000 100000", 64), 64);
  for (const char* nonsense :
       {"", "max", "50000", "0 100000", "-5 100000", "50000 0", "50000 -1", "abc def", "nan nan"})
    EXPECT_EQ(threads_of(nonsense, 3), 3) << nonsense;
}

TEST(Surroundings, AnOlderContainersQuotaToo) {
  const auto threads = [](const char* quota_us, const char* period_us) {
    std::istringstream quota(quota_us), period(period_us);
    return cpu::usable_threads(8, cpu::quota_cores(quota, period));
  };
  EXPECT_EQ(threads("-1\n", "100000\n"), 8) << "no limit";
  EXPECT_EQ(threads("150000\n", "100000\n"), 2);
  EXPECT_EQ(threads("50000", "100000"), 1);
  for (const char* nonsense : {"", "0", "max", "nan"}) EXPECT_EQ(threads(nonsense, "100000"), 8) << nonsense;
  EXPECT_EQ(threads("150000", ""), 8);
  EXPECT_EQ(threads("150000", "0"), 8);
}

Case a_case(DType dtype) {
  return {.name = "surroundings",
          .seed = 9,
          .dtype = dtype,
          .query_heads = 3,
          .key_heads = 1,
          .queries = 400,
          .keys = 700,
          .head_dim = 24,
          .causal = true,
          .query_offset = 300};
}

TEST(Surroundings, AThousandThreadsGiveTheSameBits) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Inputs inputs(a_case(dtype));
    const Backend& cpu = find_backend("cpu");
    expect_identical_edges(run_extract(cpu, inputs.problem(), 1000), run_extract(cpu, inputs.problem(), 1));
  }
}

TEST(Surroundings, AChildExtractsAfterItsParentDid) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Inputs inputs(a_case(dtype));
    const Backend& cpu = find_backend("cpu");
    const EdgeList before = run_extract(cpu, inputs.problem(), 2);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const EdgeList mine = run_extract(cpu, inputs.problem(), 2);
      _exit(mine.keys == before.keys && mine.weights_f32 == before.weights_f32 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    expect_identical_edges(run_extract(cpu, inputs.problem(), 2), before);
  }
}

}  // namespace
}  // namespace ag::test
