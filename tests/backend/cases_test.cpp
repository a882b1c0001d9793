// SPDX-License-Identifier: Apache-2.0
// Every backend on every case, held to the reference; the reference is held to long double arithmetic.
#include <gtest/gtest.h>

#include <tuple>

#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

class ExtractCases : public ::testing::TestWithParam<std::tuple<Target, Case>> {
 protected:
  void SetUp() override {
    const std::string reason = backend().unavailable();
    if (!reason.empty()) GTEST_SKIP() << backend().name() << ": " << reason;
  }
  const Target& target() const { return std::get<0>(GetParam()); }
  const Backend& backend() const { return find_backend(target().backend); }
};

TEST_P(ExtractCases, KeepsExactlyTheEdgesOfTheReference) {
  const ForcedTarget forced(target());
  const Case& c = std::get<1>(GetParam());
  SCOPED_TRACE(::testing::Message() << c);
  const Inputs inputs(c);
  const EdgeList actual = run_extract(backend(), inputs.problem(), 2);
  const bool is_reference = backend().name() == "reference";
  const EdgeList expected =
      is_reference ? oracle_extract(inputs.problem()) : run_extract(find_backend("reference"), inputs.problem());
  Tolerance tolerance;
  if (is_reference) tolerance = {1.2e-7, 1e-12};  // weights are stored as float
  expect_same_graph(actual, expected, inputs.problem(), tolerance);
  EXPECT_EQ(actual.report.backend, target().backend);
  EXPECT_EQ(actual.report.skipped_nonfinite, 0);
  EXPECT_TRUE(inputs.untouched());
}

INSTANTIATE_TEST_SUITE_P(, ExtractCases,
                         ::testing::Combine(::testing::ValuesIn(all_targets()), ::testing::ValuesIn(extract_cases())),
                         [](const auto& test) {
                           return name_of(std::get<0>(test.param)) + "_" + test_name(std::get<1>(test.param).name);
                         });

}  // namespace
}  // namespace ag::test
