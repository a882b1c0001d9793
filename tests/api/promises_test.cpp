// SPDX-License-Identifier: Apache-2.0
// Sentences of attngraph.h that promise a bound, each under its own words.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "support.hpp"

namespace attngraph_test {
namespace {

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Processor time of the calling thread between two calls of `cancelled`. A virtual machine counts the time that others
// took from it, too: what the library does shows in every run, and the best of three is judged.
constexpr int kRuns = 3;
struct AskedWatch {
  double last = processor_seconds();
  double longest = 0;
  static int ask(void* user) {
    auto& own = *static_cast<AskedWatch*>(user);
    const double now = processor_seconds();
    own.longest = std::max(own.longest, now - own.last);
    own.last = now;
    return 0;
  }
};

// Instrumented code takes ten times as long between two calls, which promises nothing to anybody.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kLongestSilence = 0.5;
#else
constexpr double kLongestSilence = 0.05;
#endif

// Each way to select, on rows so long that one of them takes a while.
struct Way {
  const char* name;
  attngraph_options options;
};
std::vector<Way> ways_to_select() {
  attngraph_options base = default_options();
  base.threads = 1;
  base.threshold = 0;
  std::vector<Way> ways;
  const auto add = [&](const char* name, attngraph_decision decision, auto&& change) {
    ways.push_back({name, base});
    ways.back().options.decision = decision;
    change(ways.back().options);
  };
  for (const attngraph_decision decision : {ATTNGRAPH_DECISION_FAST, ATTNGRAPH_DECISION_CERTIFIED}) {
    const bool fast = decision == ATTNGRAPH_DECISION_FAST;
    add(fast ? "threshold" : "certified threshold", decision,
        [&](attngraph_options& o) { o.threshold = fast ? 0.01 : 1.0 / 24'000; });
    add(fast ? "top_k" : "certified top_k", decision, [](attngraph_options& o) { o.top_k = 2000; });
    add(fast ? "mass" : "certified mass", decision, [](attngraph_options& o) { o.mass = 0.99; });
  }
  add("dense", ATTNGRAPH_DECISION_FAST, [](attngraph_options& o) { o.allow_dense = 1; });
  return ways;
}

TEST(Promises, CancelledIsCalledAtLeastEvery50MillisecondsWhateverSelects) {
  const Tensor<float> q = random_tensor({96, 64}, 1), k = random_tensor({24'000, 64}, 2);
  const attngraph_tensor q_view = q.view(), k_view = k.view();
  const Context context = make_context();
  for (auto& [name, options] : ways_to_select()) {
    double longest = std::numeric_limits<double>::infinity();
    for (int run = 0; run < kRuns && longest > kLongestSilence; ++run) {
      AskedWatch watch;
      options.cancelled = AskedWatch::ask;
      options.user = &watch;
      attngraph_result* result = nullptr;
      EXPECT_EQ(attngraph_extract(context.get(), &q_view, &k_view, &options, &result), ATTNGRAPH_OK);
      attngraph_result_destroy(result);
      longest = std::min(longest, watch.longest);
    }
    EXPECT_LE(longest, kLongestSilence) << name;
  }
}

// Answers yes once `after` calls have been made, and remembers when.
struct Stop {
  int after = 0;
  double said = 0;
  static int ask(void* user) {
    auto& own = *static_cast<Stop*>(user);
    if (own.after-- > 0) return 0;
    own.said = processor_seconds();
    return 1;
  }
};

TEST(Promises, ACancelledCallReturnsWithin100MillisecondsWhateverSelects) {
  const Tensor<float> q = random_tensor({24, 64}, 1), k = random_tensor({24'000, 64}, 2);
  const attngraph_tensor q_view = q.view(), k_view = k.view();
  const Context context = make_context();
  for (auto& [name, options] : ways_to_select()) {
    attngraph_status status = ATTNGRAPH_ERROR_CANCELLED;
    for (int after = 0; after < 12; ++after) {
      double longest = std::numeric_limits<double>::infinity();
      for (int run = 0; run < kRuns && longest > 2 * kLongestSilence; ++run) {
        Stop stop{after};
        options.cancelled = Stop::ask;
        options.user = &stop;
        attngraph_result* result = nullptr;
        status = attngraph_extract(context.get(), &q_view, &k_view, &options, &result);
        const double now = processor_seconds();
        attngraph_result_destroy(result);
        if (status == ATTNGRAPH_OK) break;  // it was done before that many calls
        EXPECT_EQ(status, ATTNGRAPH_ERROR_CANCELLED);
        longest = std::min(longest, now - stop.said);
      }
      if (status == ATTNGRAPH_OK) break;
      EXPECT_LE(longest, 2 * kLongestSilence) << name << ", call " << after;
    }
  }
}

// Pages that the process has in memory at most, in bytes; of a child: those that it touches itself.
std::int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

TEST(Promises, TheMatrixOfWeightsIsNeverStored) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer has memory of its own";
#endif
  constexpr std::int64_t kTokens = 16'384;  // a matrix of 1 GiB in float
  const Tensor<float> q = random_tensor({kTokens, 8}, 4);
  const attngraph_tensor view = q.view();
  attngraph_options options = default_options();
  options.threads = 2;
  options.stats = ATTNGRAPH_STATS_HEADS;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::int64_t before = peak_bytes();
    attngraph_result* result = nullptr;
    const bool answered = attngraph_extract(make_context().get(), &view, &view, &options, &result) == ATTNGRAPH_OK;
    const std::int64_t answer = 12 * attngraph_result_edge_count(result) + 100 * kTokens;
    _exit(answered && peak_bytes() - before < (std::int64_t{32} << 20) + 3 * answer ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Promises, LastErrorIsThisThreadsLatestFailure) {
  EXPECT_EQ(attngraph_context_create(nullptr, "cpu"), ATTNGRAPH_ERROR_ARGUMENT);
  const std::string own = attngraph_last_error();
  EXPECT_NE(own.find("context is NULL"), std::string::npos) << own;
  std::string at_first = "unset", later;
  std::thread([&] {
    at_first = attngraph_last_error();
    attngraph_context* context = nullptr;
    attngraph_context_create(&context, "abacus");
    later = attngraph_last_error();
  }).join();
  EXPECT_EQ(at_first, "") << "nothing has failed there";
  EXPECT_NE(later.find("abacus"), std::string::npos) << later;
  EXPECT_EQ(attngraph_last_error(), own) << "valid until this thread's next failure";
}

TEST(Promises, RowsThatCostNothingToClaimAreAtMost16777216) {
  const std::int64_t q_shape[] = {std::int64_t{1} << 40, 0};
  attngraph_tensor weights{nullptr, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 2, q_shape, nullptr};
  attngraph_result* result = nullptr;
  EXPECT_EQ(attngraph_filter_matrix(make_context().get(), &weights, nullptr, &result), ATTNGRAPH_ERROR_SHAPE);
  EXPECT_NE(std::string(attngraph_last_error()).find("16777216"), std::string::npos) << attngraph_last_error();
}

TEST(Promises, CertifiedEdgesAreTheSameOnEveryBackendAndNumberOfThreads) {
  const Tensor<float> q = random_tensor({4, 60, 16}, 3);
  const attngraph_tensor view = q.view();
  const Context context = make_context();
  attngraph_options options = default_options();
  options.decision = ATTNGRAPH_DECISION_CERTIFIED;
  options.causal = 1;
  for (const double threshold : {0.02, 1.0 / 7, 1.0, 0.0}) {
    options.threshold = threshold;
    options.top_k = threshold == 0 ? 7 : 0;
    options.mass = threshold == 0 ? 0.9 : 0;
    std::string first;
    for (const char* backend : {"reference", "cpu"}) {
      for (const int threads : {1, 3}) {
        options.backend = backend;
        options.threads = threads;
        const Result result = extract(context, view, view, options);
        attngraph_report report;
        ASSERT_EQ(attngraph_result_report(result.get(), &report), ATTNGRAPH_OK);
        EXPECT_EQ(report.eps, 0.0);
        EXPECT_EQ(report.unresolved, 0);
        std::string edges;
        for (std::int64_t s = 0; s < attngraph_result_slice_count(result.get()); ++s) {
          attngraph_csr csr;
          ASSERT_EQ(attngraph_result_csr(result.get(), s, &csr), ATTNGRAPH_OK);
          for (std::int64_t r = 0; r <= csr.query_count; ++r) edges += std::to_string(csr.offsets[r]) + " ";
          for (std::int64_t e = 0; e < csr.edge_count; ++e) edges += std::to_string(csr.keys[e]) + ",";
        }
        if (first.empty()) first = edges;
        EXPECT_EQ(edges, first) << backend << ", " << threads << " threads, t " << threshold;
      }
    }
  }
}

TEST(Promises, CertifiedIsRefusedForInputsInDeviceMemory) {
  const Tensor<float> q = random_tensor({1, 6, 4}, 3);
  attngraph_tensor view = q.view();
  view.device_type = ATTNGRAPH_DEVICE_CUDA;
  attngraph_options options = default_options();
  options.decision = ATTNGRAPH_DECISION_CERTIFIED;
  attngraph_result* result = nullptr;
  EXPECT_EQ(attngraph_extract(make_context().get(), &view, &view, &options, &result), ATTNGRAPH_ERROR_UNSUPPORTED);
}

}  // namespace
}  // namespace attngraph_test
