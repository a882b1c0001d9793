// SPDX-License-Identifier: Apache-2.0
// The door of the list of tasks: sizes, places and refusals. What the list holds is tested in plan/tasks_test.cpp.
#include <attngraph/attngraph.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace {

using testing::HasSubstr;

constexpr std::array<std::int64_t, 3> kShape = {4, 1000, 8};
// Without data: a plan reads nothing.
const attngraph_tensor kTensor = {nullptr, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F16, 3, kShape.data(), nullptr};

TEST(PlanTasks, AreCountedThenWritten) {
  attngraph_options options = ATTNGRAPH_OPTIONS_INIT;
  options.layer = 7;
  const std::array<std::int64_t, 3> heads = {0, 2, 3};
  options.heads = heads.data();
  options.head_count = 3;
  std::int64_t count = -1;
  ASSERT_EQ(attngraph_plan_tasks(&kTensor, &kTensor, &options, 1000000, nullptr, 0, &count), ATTNGRAPH_OK);
  ASSERT_EQ(count, 3);
  std::array<attngraph_task, 4> tasks{};
  ASSERT_EQ(attngraph_plan_tasks(&kTensor, &kTensor, &options, 1000000, tasks.data(), 4, &count), ATTNGRAPH_OK);
  EXPECT_EQ(tasks[2].layer, 7);
  EXPECT_EQ(tasks[2].head_begin, 2);
  EXPECT_EQ(tasks[2].head_end, 3);
  EXPECT_EQ(tasks[2].query_end, 1000);
  EXPECT_EQ(tasks[2].pairs, 1000000);
  EXPECT_EQ(tasks[3].query_end, 0) << "beyond the list nothing is written";

  EXPECT_EQ(attngraph_plan_tasks(&kTensor, &kTensor, &options, 1000000, tasks.data(), 2, &count),
            ATTNGRAPH_ERROR_CAPACITY);
  EXPECT_THAT(attngraph_last_error(), HasSubstr("there are 3 tasks, and room for 2"));
}

TEST(PlanTasks, RefuseWhatIsNoPlan) {
  std::int64_t count = 5;
  EXPECT_EQ(attngraph_plan_tasks(&kTensor, &kTensor, nullptr, 0, nullptr, 0, &count), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_plan_tasks(&kTensor, nullptr, nullptr, 1, nullptr, 0, &count), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_plan_tasks(&kTensor, &kTensor, nullptr, 1, nullptr, 0, nullptr), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_plan_tasks(&kTensor, &kTensor, nullptr, 1, nullptr, 3, &count), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_plan_tasks(&kTensor, &kTensor, nullptr, 1, nullptr, -1, &count), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(count, 5) << "on failure outputs are left as they were";
}

TEST(PlanTasks, TheirGraphsJoinedAreTheWhole) {
  constexpr std::int64_t kQueries = 900;
  std::vector<float> values(2 * 3 * kQueries * 16);
  std::uint32_t state = 1;
  for (float& v : values) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) / (1 << 22) - 2;
  }
  const attngraph::tensor q(values.data(), ATTNGRAPH_F32, {3, kQueries, 16});
  const attngraph::tensor k(values.data() + 3 * kQueries * 16, ATTNGRAPH_F32, {3, kQueries, 16});
  const attngraph::options how = attngraph::options().threshold(0.02).causal();
  attngraph::context c("cpu");
  std::vector<attngraph::result> parts;
  for (const attngraph::task& t : attngraph::plan_tasks(q, k, how, 100000)) {
    std::vector<std::int64_t> heads;
    for (std::int64_t h = t.head_begin; h < t.head_end; ++h) heads.push_back(h);
    parts.push_back(c.extract(q, k, attngraph::options(how).heads(heads).query_range(t.query_begin, t.query_end)));
  }
  EXPECT_EQ(parts.size(), 6U);
  std::vector<const attngraph_result*> pointers;
  for (const attngraph::result& part : parts) pointers.push_back(part.c());
  const attngraph::result joined = attngraph::result::join(pointers), whole = c.extract(q, k, how);
  const attngraph::difference d = whole.diff(joined, 0);
  EXPECT_EQ(d.only_a + d.only_b + d.slices_only_a + d.slices_only_b, 0);
  EXPECT_EQ(d.max_weight_difference, 0);
  EXPECT_GT(d.common, 100);
}

}  // namespace
