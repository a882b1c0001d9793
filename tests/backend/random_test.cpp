// SPDX-License-Identifier: Apache-2.0
// Requests out of everything the contract allows at once, under plans that make_plan would not choose for their size.
#include <gtest/gtest.h>

#include <cstdlib>
#include <exception>

#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

// ATTNGRAPH_RANDOM_CASES=5000 makes a longer hunt.
std::uint64_t case_count() {
  const char* text = std::getenv("ATTNGRAPH_RANDOM_CASES");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 150;
}

class RandomCases : public ::testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(, RandomCases, ::testing::ValuesIn(all_targets()),
                         [](const auto& test) { return name_of(test.param); });

TEST_P(RandomCases, KeepExactlyTheEdgesOfTheReference) {
  const Backend& backend = find_backend(GetParam().backend);
  const std::string reason = backend.unavailable();
  if (!reason.empty()) GTEST_SKIP() << reason;
  const ForcedTarget forced(GetParam());
  const bool is_reference = backend.name() == "reference";
  const std::uint64_t count = case_count();
  for (std::uint64_t seed = 1; seed <= count && !HasFailure(); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const Inputs inputs(random_case(seed));
    const Problem& problem = inputs.problem();
    Random random(seed);
    Plan plan = plan_for(backend, problem, static_cast<int>(1 + random.below(4)));
    plan.pack = static_cast<PackKeys>(random.below(3));
    plan.rows_per_task = 48 * (1 + random.below(3));  // whole blocks of every kernel
    plan.cuda.lanes = static_cast<int>(1 + random.below(3));
    plan.cuda.queries_per_chunk = 1 + problem.queries() / 3 + random.below(problem.queries() + 1);
    plan.cuda.heads_per_chunk = static_cast<int>(1 + random.below(4));
    const int splits = static_cast<int>(1 + random.below(3));
    plan.cuda.splits = plan.kernel == Kernel::kMmaSync ? splits : 1;  // blocks of other kernels own their rows
    plan.cuda.chunks_per_batch = 1 + random.below(4);
    plan.cuda.counts_first = plan.cuda.counts_first || random.below(3) == 0;
    plan.cuda.bounds_top_k = plan.cuda.counts_first && problem.selection.top_k > 0 && random.below(2) == 0;
    if (!plan.cuda.devices.empty()) plan.workspace_bytes = 8 << 20;
    CollectSink sink;
    Control control;
    try {
      sink.finish(backend.extract(problem, plan, sink, control));
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what();  // with the seed, which an exception would leave behind
      break;
    }
    const EdgeList expected = is_reference ? oracle_extract(problem) : run_extract(find_backend("reference"), problem);
    expect_same_graph(sink.take(), expected, problem);
    EXPECT_TRUE(inputs.untouched());
  }
}

}  // namespace
}  // namespace ag::test
