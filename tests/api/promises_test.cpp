// SPDX-License-Identifier: Apache-2.0
// Sentences of attngraph.h that promise a bound, each under its own words.
#include <algorithm>
#include <ctime>
#include <string>
#include <thread>

#include "support.hpp"

namespace attngraph_test {
namespace {

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Processor time of the calling thread between two calls of `cancelled`: a busy machine must not fail the test.
struct Watch {
  double last = processor_seconds();
  double longest = 0;
  static int ask(void* user) {
    auto& own = *static_cast<Watch*>(user);
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

TEST(Promises, CancelledIsCalledAtLeastEvery50MillisecondsWhateverSelects) {
  const Tensor<float> q = random_tensor({96, 64}, 1), k = random_tensor({24'000, 64}, 2);
  const attngraph_tensor q_view = q.view(), k_view = k.view();
  const Context context = make_context();
  for (const char* selection : {"threshold", "top_k", "mass", "dense", "certified"}) {
    attngraph_options options = default_options();
    const std::string name = selection;
    if (name != "certified") options.threshold = name == "threshold" ? 0.01 : 0;
    if (name == "top_k") options.top_k = 2000;
    if (name == "mass") options.mass = 0.99;
    if (name == "certified") options.threshold = 1.0 / 24'000;
    options.allow_dense = name == "dense";
    options.decision = name == "certified" ? ATTNGRAPH_DECISION_CERTIFIED : ATTNGRAPH_DECISION_FAST;
    options.threads = 1;
    Watch watch;
    options.cancelled = Watch::ask;
    options.user = &watch;
    attngraph_result* result = nullptr;
    EXPECT_EQ(attngraph_extract(context.get(), &q_view, &k_view, &options, &result), ATTNGRAPH_OK);
    attngraph_result_destroy(result);
    EXPECT_LE(watch.longest, kLongestSilence) << selection;
  }
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
  for (const double threshold : {0.02, 1.0 / 7, 1.0}) {
    options.threshold = threshold;
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

TEST(Promises, CertifiedIsRefusedWhereItIsNotOffered) {
  const Tensor<float> q = random_tensor({1, 6, 4}, 3);
  const attngraph_tensor view = q.view();
  const Context context = make_context();
  for (const bool mass : {false, true}) {
    attngraph_options options = default_options();
    options.decision = ATTNGRAPH_DECISION_CERTIFIED;
    (mass ? options.mass : options.threshold) = 0.5;
    if (!mass) options.top_k = 2;
    attngraph_result* result = nullptr;
    EXPECT_EQ(attngraph_extract(context.get(), &view, &view, &options, &result), ATTNGRAPH_ERROR_UNSUPPORTED);
    EXPECT_NE(std::string(attngraph_last_error()).find(mass ? "leave mass out" : "leave top_k out"), std::string::npos)
        << attngraph_last_error();
  }
}

}  // namespace
}  // namespace attngraph_test
