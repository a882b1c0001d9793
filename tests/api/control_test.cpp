// SPDX-License-Identifier: Apache-2.0
// Long work: cancelling, progress, and contexts used from several threads.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "support.hpp"

namespace attngraph_test {
namespace {

class EveryBackend : public testing::TestWithParam<std::string> {
 protected:
  attngraph_options options() const {
    attngraph_options o = default_options();
    o.backend = GetParam().c_str();
    return o;
  }
};
INSTANTIATE_TEST_SUITE_P(Api, EveryBackend, testing::ValuesIn(working_backends()),
                         [](const auto& backend) { return backend.param; });

struct Watch {
  std::vector<double> fractions;
  int asked = 0;
  int cancel_at = -1;  // which question is answered with yes
  std::thread::id caller = std::this_thread::get_id();
  bool same_thread = true;

  static int cancelled(void* user) {
    Watch& watch = *static_cast<Watch*>(user);
    watch.same_thread = watch.same_thread && std::this_thread::get_id() == watch.caller;
    return watch.asked++ == watch.cancel_at ? 1 : 0;
  }
  static void progress(void* user, double fraction) {
    Watch& watch = *static_cast<Watch*>(user);
    watch.same_thread = watch.same_thread && std::this_thread::get_id() == watch.caller;
    watch.fractions.push_back(fraction);
  }
  void wire(attngraph_options& o) {
    o.cancelled = cancelled;
    o.progress = progress;
    o.user = this;
  }
};

TEST_P(EveryBackend, ProgressGrowsFromZeroToOneInTheCallersThread) {
  const Tensor<float> q = random_tensor({4, 600, 32}, 1);
  Watch watch;
  attngraph_options o = options();
  watch.wire(o);
  extract(make_context(), q.view(), q.view(), o);
  ASSERT_GE(watch.fractions.size(), 2u);
  EXPECT_EQ(watch.fractions.front(), 0);
  EXPECT_EQ(watch.fractions.back(), 1);
  EXPECT_TRUE(std::is_sorted(watch.fractions.begin(), watch.fractions.end()));
  EXPECT_TRUE(watch.same_thread);
  EXPECT_GE(watch.asked, 1);
}

TEST_P(EveryBackend, CancelledBeforeItStartsDoesNothing) {
  const Tensor<float> q = random_tensor({2, 8, 4}, 2);
  const attngraph_tensor view = q.view();
  Watch watch;
  watch.cancel_at = 0;
  attngraph_options o = options();
  watch.wire(o);
  const Context context = make_context();
  const Sink sink = make_collect_sink();
  EXPECT_EQ(attngraph_extract_to(context.get(), &view, &view, &o, sink.get()), ATTNGRAPH_ERROR_CANCELLED);
  EXPECT_EQ(attngraph_sink_edge_count(sink.get()), 0);
  // Nothing went in, so the sink is as new; and the context is free again.
  watch.cancel_at = -1;
  EXPECT_EQ(attngraph_extract_to(context.get(), &view, &view, &o, sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
}

TEST_P(EveryBackend, CancelledHalfWayStopsSoonAndLeavesNoResult) {
  // Hours of work, if it were done: 2^20 queries against 4096 keys, all of one small block of memory.
  const Tensor<float> block = random_tensor({4096, 64}, 3);
  const std::int64_t q_shape[] = {std::int64_t{1} << 20, 64}, q_strides[] = {0, 1};
  attngraph_tensor q = block.view();
  q.shape = q_shape;
  q.strides = q_strides;
  const attngraph_tensor k = block.view();
  Watch watch;
  watch.cancel_at = 2;
  attngraph_options o = options();
  watch.wire(o);
  attngraph_result* result = nullptr;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(attngraph_extract(make_context().get(), &q, &k, &o, &result), ATTNGRAPH_ERROR_CANCELLED);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(result, nullptr);
  EXPECT_LT(seconds.count(), 10) << "far more than the 3 x 50 ms promised, for slow and busy machines";
  EXPECT_TRUE(watch.same_thread);
}

TEST_P(EveryBackend, AContextInUseIsBusyForOtherThreads) {
  const Tensor<float> q = random_tensor({2, 16, 4}, 4);
  const attngraph_tensor view = q.view();
  const Context context = make_context();
  struct Gate {
    std::atomic<bool> entered{false}, leave{false};
    static int wait(void* user) {
      Gate& gate = *static_cast<Gate*>(user);
      gate.entered = true;
      while (!gate.leave) std::this_thread::yield();
      return 0;
    }
  } gate;
  attngraph_options held = options();
  held.cancelled = Gate::wait;
  held.user = &gate;
  attngraph_status of_holder = ATTNGRAPH_ERROR_INTERNAL;
  std::thread holder([&] {
    attngraph_result* result = nullptr;
    of_holder = attngraph_extract(context.get(), &view, &view, &held, &result);
    attngraph_result_destroy(result);
  });
  while (!gate.entered) std::this_thread::yield();
  attngraph_result* result = nullptr;
  char* text = nullptr;
  EXPECT_EQ(attngraph_extract(context.get(), &view, &view, nullptr, &result), ATTNGRAPH_ERROR_BUSY);
  EXPECT_EQ(attngraph_filter_matrix(context.get(), &view, nullptr, &result), ATTNGRAPH_ERROR_BUSY);
  EXPECT_EQ(attngraph_explain(context.get(), &view, &view, nullptr, &text), ATTNGRAPH_ERROR_BUSY);
  EXPECT_EQ(result, nullptr);
  EXPECT_EQ(text, nullptr);
  gate.leave = true;
  holder.join();
  EXPECT_EQ(of_holder, ATTNGRAPH_OK);
  extract(context, view, view, default_options());
}

TEST_P(EveryBackend, ContextsOfTheirOwnDoNotDisturbEachOther) {
  const Tensor<float> q = random_tensor({4, 64, 16}, 5), k = random_tensor({2, 80, 16}, 6);
  const attngraph_tensor q_view = q.view(), k_view = k.view();
  attngraph_options o = options();
  o.threads = 2;
  o.causal = 1;
  const std::vector<Row> expected = table_of(extract(make_context(), q_view, k_view, o).get());
  ASSERT_GT(expected.size(), 100u);
  std::vector<std::vector<Row>> tables(4);
  std::vector<std::string> errors(4);
  std::vector<std::thread> threads;
  for (std::size_t n = 0; n < tables.size(); ++n) {
    threads.emplace_back([&, n] {
      attngraph_context* context = nullptr;
      attngraph_context_create(&context, "cpu");
      for (int again = 0; again < 5; ++again) {
        attngraph_result* result = nullptr;
        attngraph_extract(context, &q_view, &k_view, &o, &result);
        tables[n] = table_of(result);
        attngraph_result_destroy(result);
        // Each thread's last error is its own.
        attngraph_result_csr(nullptr, static_cast<std::int64_t>(n), nullptr);
        const std::string device = "device" + std::to_string(n);
        attngraph_context* none = nullptr;
        attngraph_context_create(&none, device.c_str());
        errors[n] = attngraph_last_error();
      }
      attngraph_context_destroy(context);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t n = 0; n < tables.size(); ++n) {
    EXPECT_EQ(tables[n], expected);
    EXPECT_NE(errors[n].find("device" + std::to_string(n)), std::string::npos) << errors[n];
  }
}

TEST_P(EveryBackend, AnExceptionFromACallbackBecomesAStatus) {
  const Tensor<float> q = random_tensor({2, 8, 4}, 7);
  const attngraph_tensor view = q.view();
  attngraph_options o = options();
  o.cancelled = [](void*) -> int { throw std::runtime_error("the caller's own trouble"); };
  const Context context = make_context();
  attngraph_result* result = nullptr;
  EXPECT_EQ(attngraph_extract(context.get(), &view, &view, &o, &result), ATTNGRAPH_ERROR_INTERNAL);
  EXPECT_NE(std::string(attngraph_last_error()).find("the caller's own trouble"), std::string::npos);
  o.cancelled = [](void*) -> int { throw 7; };
  EXPECT_EQ(attngraph_extract(context.get(), &view, &view, &o, &result), ATTNGRAPH_ERROR_INTERNAL);
  o.cancelled = [](void*) -> int { throw std::bad_alloc(); };
  EXPECT_EQ(attngraph_extract(context.get(), &view, &view, &o, &result), ATTNGRAPH_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(result, nullptr);
  extract(context, view, view, options());
}

}  // namespace
}  // namespace attngraph_test
