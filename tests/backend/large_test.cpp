// SPDX-License-Identifier: Apache-2.0
// More scores than 32 bits can count.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/run.hpp"
#include "support/tensor.hpp"

namespace ag::test {
namespace {

// Five keys stand out of 46,400 and weigh 0.15 each in every row; all others weigh 5e-6. 46,400^2 is above 2^31.
TEST(LargeProblems, MoreScoresThan32BitsCanCount) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer makes 2^31 scores take minutes";
#endif
  constexpr std::int64_t kLength = 46'400;
  static_assert(kLength * kLength > std::int64_t{1} << 31);
  const std::vector<std::int32_t> heavy{0, 1, 20'000, 46'300, 46'399};
  std::vector<double> values(static_cast<std::size_t>(kLength), 0.0);
  for (const std::int32_t j : heavy) values[static_cast<std::size_t>(j)] = 1.0;
  const Tensor k(DType::kF32, {1, 1, kLength, 1}, values);
  const double score = std::log(0.15 / 0.25 * static_cast<double>(kLength - 5));
  const Tensor q(DType::kF32, {1, 1, kLength, 1}, std::vector<double>(static_cast<std::size_t>(kLength), score));
  Problem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.heads = {0};
  problem.query_end = kLength;
  problem.selection.threshold = 0.1;

  const Backend& cpu = find_backend("cpu");
  const EdgeList graph = run_extract(cpu, problem, cpu.device().threads);
  ASSERT_EQ(graph.edge_count(), 5 * kLength);
  for (std::int64_t i = 0; i < kLength; ++i) {
    const auto n = static_cast<std::size_t>(i);
    ASSERT_EQ(graph.offsets[n + 1], 5 * (i + 1));
    for (std::size_t e = 0; e < 5; ++e) {
      ASSERT_EQ(graph.keys[5 * n + e], heavy[e]) << "query " << i;
      ASSERT_NEAR(graph.weights_f32[5 * n + e], 0.15, 0.15 * 2e-5) << "query " << i;
    }
  }
}

}  // namespace
}  // namespace ag::test
