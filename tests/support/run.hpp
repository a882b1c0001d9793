// SPDX-License-Identifier: Apache-2.0
// Runs a backend on a problem and collects its answer.
#pragma once

#include <gtest/gtest.h>

#include <cctype>
#include <ostream>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "cpu/targets.hpp"
#include "graph/edge_list.hpp"
#include "plan/plan.hpp"

namespace ag::test {

template <class AnyProblem>
Plan plan_for(const Backend& backend, const AnyProblem& problem, int threads = 1) {
  PlanOptions options;
  options.backend = std::string(backend.name());
  options.threads = threads;
  return make_plan(shape_of(problem), options, backend.device_for(shape_of(problem)));
}

inline EdgeList run_extract(const Backend& backend, const Problem& problem, int threads = 1) {
  CollectSink sink;
  Control control;
  sink.finish(backend.extract(problem, plan_for(backend, problem, threads), sink, control));
  return sink.take();
}

inline EdgeList run_filter(const Backend& backend, const MatrixProblem& problem, int threads = 1) {
  CollectSink sink;
  Control control;
  sink.finish(backend.filter(problem, plan_for(backend, problem, threads), sink, control));
  return sink.take();
}

// The status that `run` fails with, and its message; kOk when it does not fail.
struct Failure {
  Status status = Status::kOk;
  std::string message;
};
template <class Run>
Failure failure_of(Run&& run) {
  try {
    run();
  } catch (const Error& error) {
    return {error.status(), error.what()};
  }
  return {};
}

// A backend, and for `cpu` the instruction set to force; "" leaves the choice to the backend.
struct Target {
  std::string backend;
  std::string instruction_set;
};

// Every backend; `cpu` once per instruction set that this machine has.
inline std::vector<Target> all_targets() {
  std::vector<Target> targets;
  for (const Backend* backend : backends()) {
    if (backend->name() == "cpu") {
      for (const std::string& set : cpu_targets()) targets.push_back({"cpu", set});
    } else {
      targets.push_back({std::string(backend->name()), ""});
    }
  }
  return targets;
}

inline std::vector<std::string> all_backend_names() {
  std::vector<std::string> names;
  for (const Backend* backend : backends()) names.emplace_back(backend->name());
  return names;
}

inline std::string test_name(const std::string& text) {
  std::string name;
  for (const char c : text) name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}
inline std::string name_of(const Target& target) {
  return test_name(target.instruction_set.empty() ? target.backend : target.backend + "_" + target.instruction_set);
}

inline std::ostream& operator<<(std::ostream& out, const Target& target) { return out << name_of(target); }

class ForcedTarget {
 public:
  explicit ForcedTarget(const Target& target) : forced_(!target.instruction_set.empty()) {
    if (forced_) force_cpu_target(target.instruction_set);
  }
  ~ForcedTarget() {
    if (forced_) force_cpu_target("");
  }
  ForcedTarget(const ForcedTarget&) = delete;
  ForcedTarget& operator=(const ForcedTarget&) = delete;

 private:
  bool forced_;
};

// A test that runs on every backend by name; skipped, visibly, where the backend cannot run.
class EveryBackend : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string reason = backend().unavailable();
    if (!reason.empty()) GTEST_SKIP() << backend().name() << ": " << reason;
  }
  const Backend& backend() const { return find_backend(GetParam()); }
};

#define ATTNGRAPH_EVERY_BACKEND(suite)                                                    \
  INSTANTIATE_TEST_SUITE_P(, suite, ::testing::ValuesIn(::ag::test::all_backend_names()), \
                           [](const auto& test) { return ::ag::test::test_name(test.param); })

}  // namespace ag::test
