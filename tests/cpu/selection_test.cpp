// SPDX-License-Identifier: Apache-2.0
// Top-k and mass over rows of many strips: the cut follows what the row has shown so far, and the order in which a row
// shows its keys must not matter. Every instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/samples.hpp"
#include "support/tensor.hpp"

namespace ag::test {
namespace {

class SelectionOverStrips : public ::testing::TestWithParam<std::string> {
 protected:
  SelectionOverStrips() : forced_({"cpu", GetParam()}) {}

 private:
  ForcedTarget forced_;
};
INSTANTIATE_TEST_SUITE_P(, SelectionOverStrips, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& test) { return test_name(test.param); });

// One head of D = 2 whose scores are what `score` says, but for a little noise of its own in every row.
struct Head {
  Head(std::int64_t queries, std::int64_t keys, const std::function<double(std::int64_t)>& score) {
    Random random(5);
    std::vector<double> q, k;
    for (std::int64_t i = 0; i < queries; ++i) {
      q.push_back(1.0);
      q.push_back(0.1 + 0.2 * random.uniform());
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      k.push_back(score(j));
      k.push_back(random.normal());
    }
    q_ = Tensor(DType::kF32, {1, 1, queries, 2}, q);
    k_ = Tensor(DType::kF32, {1, 1, keys, 2}, k);
    problem.q = q_.view();
    problem.k = k_.view();
    problem.query_end = queries;
    problem.heads = {0};
  }
  Problem problem;

 private:
  Tensor q_{DType::kF32, {0}, {}}, k_{DType::kF32, {0}, {}};
};

void expect_as_reference(const Problem& problem) {
  const EdgeList actual = run_extract(find_backend("cpu"), problem);
  const EdgeList expected = run_extract(find_backend("reference"), problem);
  ASSERT_GT(expected.edge_count(), 0);
  expect_same_graph(actual, expected, problem);
}

// Where the heavy keys stand: the last strip is swept first, then the others in order.
const std::pair<const char*, std::function<double(std::int64_t)>> kArrangements[] = {
    {"flat", [](std::int64_t) { return 0.0; }},
    {"rising", [](std::int64_t j) { return static_cast<double>(j) / 300; }},
    {"falling", [](std::int64_t j) { return -static_cast<double>(j) / 300; }},
    {"heavy first, then broad", [](std::int64_t j) { return j < 5        ? 6.0
                                                            : j % 7 == 0 ? 1.0
                                                                         : 0.0; }},
    // The strip that is swept first shows a few keys that hold nearly all, the others outweigh it by their number.
    {"heavy last, then broad", [](std::int64_t j) { return j > 3990   ? 5.0
                                                           : j > 3500 ? -9.0
                                                                      : 2.0; }},
    {"one key", [](std::int64_t j) { return j == 1234 ? 20.0 : 0.0; }}};

TEST_P(SelectionOverStrips, MassIsThatOfTheReferenceWhereverTheHeavyKeysStand) {
  for (const auto& [name, score] : kArrangements) {
    Head head(15, 4000, score);
    for (const double mass : {0.2, 0.5, 0.9, 0.999, 1.0}) {
      SCOPED_TRACE(::testing::Message() << name << ", mass " << mass);
      head.problem.selection = {.mass = mass};
      expect_as_reference(head.problem);
    }
  }
}

TEST_P(SelectionOverStrips, TopKIsThatOfTheReferenceWhereverTheHeavyKeysStand) {
  for (const auto& [name, score] : kArrangements) {
    Head head(15, 4000, score);
    for (const std::int64_t top_k : {1, 32, 600, 3999}) {
      SCOPED_TRACE(::testing::Message() << name << ", top-k " << top_k);
      head.problem.selection = {.top_k = top_k};
      expect_as_reference(head.problem);
    }
  }
}

TEST_P(SelectionOverStrips, MaskedKeysOfTheFirstStripAreNoCandidates) {
  Head head(15, 4000, [](std::int64_t j) { return static_cast<double>(j % 11) / 4; });
  std::vector<double> allowed(4000, 1.0);
  for (std::size_t j = 3000; j < 3995; ++j) allowed[j] = 0.0;
  const Tensor mask(DType::kF32, {1, 1, 1, 4000}, [&] {
    std::vector<double> bias;
    for (const double a : allowed) bias.push_back(a > 0 ? 0.0 : -std::numeric_limits<double>::infinity());
    return bias;
  }());
  head.problem.mask.tensor = mask.view();
  head.problem.mask.tensor.strides[2] = 0;
  head.problem.mask.tensor.shape[2] = 15;
  for (const Selection& selection : {Selection{.top_k = 10}, Selection{.top_k = 700}, Selection{.mass = 0.4}}) {
    head.problem.selection = selection;
    expect_as_reference(head.problem);
  }
}

TEST_P(SelectionOverStrips, ASinkTakesItsPartOfTheMass) {
  Head head(15, 4000, kArrangements[4].second);
  for (const double logit : {-3.0, 8.0, 11.0}) {
    const Tensor sinks(DType::kF64, {1, 1}, {logit});
    head.problem.sinks = sinks.view();
    for (const double mass : {0.3, 0.8}) {
      SCOPED_TRACE(::testing::Message() << "sink " << logit << ", mass " << mass);
      head.problem.selection = {.mass = mass};
      expect_as_reference(head.problem);
    }
  }
}

}  // namespace
}  // namespace ag::test
