// SPDX-License-Identifier: Apache-2.0
// What attngraph.hpp knows and the C structs cannot say.
#include <attngraph/attngraph.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace {

using testing::HasSubstr;

TEST(Wrapper, KeyLengthsAreOneForEachSequence) {
  const std::vector<float> values(2 * 1 * 5 * 8, 0.5f);
  const attngraph::tensor two(values.data(), ATTNGRAPH_F32, {2, 1, 5, 8}), one(values.data(), ATTNGRAPH_F32, {5, 8});
  attngraph::context context("cpu");
  attngraph::session session(context);
  session.append(two);
  const auto of = [](std::vector<std::int64_t> lengths) {
    return attngraph::options().key_lengths(std::move(lengths));
  };
  const auto refusal = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const attngraph::error& e) {
      EXPECT_EQ(e.status(), ATTNGRAPH_ERROR_SHAPE);
      return e.what();
    }
    return "none";
  };
  const std::string short_list = "key_lengths has 1 entries; there are 2 sequences";
  EXPECT_THAT(refusal([&] { context.extract(two, two, of({3})); }), HasSubstr(short_list));
  EXPECT_THAT(refusal([&] { context.filter(two, of({3})); }), HasSubstr(short_list));
  EXPECT_THAT(refusal([&] { context.explain(two, two, of({3})); }), HasSubstr(short_list));
  EXPECT_THAT(refusal([&] { session.rows(two, of({3})); }), HasSubstr(short_list));
  EXPECT_THAT(refusal([&] { attngraph::plan_tasks(two, two, of({3}), 100); }), HasSubstr(short_list));
  EXPECT_THAT(refusal([&] { context.extract(two, two, of({})); }), HasSubstr("has 0 entries"));
  EXPECT_THAT(refusal([&] { context.extract(one, one, of({3, 3})); }), HasSubstr("has 2 entries; there are 1"));
  EXPECT_EQ(refusal([&] { context.extract(two, two, of({3, 5})); }), "none");
  EXPECT_EQ(refusal([&] { context.extract(one, one, of({3})); }), "none");
}

}  // namespace
