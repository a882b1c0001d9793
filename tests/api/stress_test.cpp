// SPDX-License-Identifier: Apache-2.0
// Many callers at the same time: contexts that come and go, calls that are cancelled, one context that all want, and
// processes that are forked in between. Small, for ThreadSanitizer runs it.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support.hpp"

namespace attngraph_test {
namespace {

int stop_at_once(void*) { return 1; }
int stop_later(void* left) { return (*static_cast<int*>(left))-- <= 0; }

std::int64_t edges_of(attngraph_context* context, const attngraph_tensor& view, const attngraph_options& options) {
  attngraph_result* result = nullptr;
  if (attngraph_extract(context, &view, &view, &options, &result) != ATTNGRAPH_OK) return -1;
  const Result owned(result);
  return attngraph_result_edge_count(result);
}

TEST(Stress, ContextsAndCancellationsAtTheSameTimeDisturbNobody) {
  const Tensor<float> q = random_tensor({2, 150, 16}, 5);
  const attngraph_tensor view = q.view();
  attngraph_options options = default_options();
  options.causal = 1;
  options.threads = 2;
  options.decision = ATTNGRAPH_DECISION_CERTIFIED;
  const std::int64_t right = edges_of(make_context().get(), view, options);
  ASSERT_GT(right, 0);
  const Context wanted_by_all = make_context();
  std::atomic<int> wrong{0}, busy{0}, answered{0};
  const auto caller = [&](int number) {
    for (int round = 0; round < 12; ++round) {
      const Context own = make_context();
      attngraph_options mine = options;
      int left = round % 3;
      if ((round + number) % 4 == 1) mine.cancelled = stop_at_once;
      if ((round + number) % 4 == 2) mine.cancelled = stop_later, mine.user = &left;
      const std::int64_t edges = edges_of(own.get(), view, mine);
      wrong += edges != right && (edges != -1 || mine.cancelled == nullptr);
      attngraph_result* result = nullptr;
      const attngraph_status status = attngraph_extract(wanted_by_all.get(), &view, &view, &options, &result);
      const Result owned(result);
      busy += status == ATTNGRAPH_ERROR_BUSY;
      answered += status == ATTNGRAPH_OK && attngraph_result_edge_count(result) == right;
      wrong += status != ATTNGRAPH_ERROR_BUSY && status != ATTNGRAPH_OK;
    }
  };
  std::vector<std::thread> callers;
  for (int n = 0; n < 4; ++n) callers.emplace_back(caller, n);
  for (std::thread& thread : callers) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(busy + answered, 48);
  EXPECT_GT(answered, 0);
}

TEST(Stress, AForkedProcessAnswersFromAContextOfItsParentAsThreadsComeAndGo) {
  const Tensor<float> q = random_tensor({2, 100, 16}, 6);
  const attngraph_tensor view = q.view();
  attngraph_options options = default_options();
  const Context context = make_context();
  options.threads = 3;
  const std::int64_t right = edges_of(context.get(), view, options);
  for (int round = 0; round < 6; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // What threads there were are gone; new ones do the same.
      options.threads = 1 + round % 3;
      _exit(edges_of(context.get(), view, options) == right ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "round " << round << ", status " << status;
    EXPECT_EQ(edges_of(context.get(), view, options), right);
  }
}

}  // namespace
}  // namespace attngraph_test
