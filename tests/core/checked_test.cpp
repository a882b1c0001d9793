// SPDX-License-Identifier: Apache-2.0
#include "core/checked.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

namespace ag::test {
namespace {

template <class T>
class CheckedArithmetic : public ::testing::Test {};
using Sizes = ::testing::Types<std::int32_t, std::int64_t, std::uint32_t, std::uint64_t, std::size_t>;
TYPED_TEST_SUITE(CheckedArithmetic, Sizes);

template <class Run>
void expect_limit(Run&& run) {
  try {
    run();
    ADD_FAILURE() << "did not fail";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::kLimit);
    EXPECT_NE(std::string(error.what()).find("row bytes"), std::string::npos) << error.what();
  }
}

TYPED_TEST(CheckedArithmetic, IsExactUpToTheLimit) {
  constexpr TypeParam kMax = std::numeric_limits<TypeParam>::max();
  constexpr TypeParam kMin = std::numeric_limits<TypeParam>::min();
  EXPECT_EQ(checked_add(static_cast<TypeParam>(kMax - 1), TypeParam{1}, "row bytes"), kMax);
  EXPECT_EQ(checked_add(kMin, TypeParam{0}, "row bytes"), kMin);
  EXPECT_EQ(checked_mul(static_cast<TypeParam>(kMax / 2), TypeParam{2}, "row bytes"), kMax - 1);
  EXPECT_EQ(checked_mul(kMax, TypeParam{0}, "row bytes"), TypeParam{0});
}

TYPED_TEST(CheckedArithmetic, FailsWhereItWouldWrap) {
  constexpr TypeParam kMax = std::numeric_limits<TypeParam>::max();
  expect_limit([] { checked_add(kMax, TypeParam{1}, "row bytes"); });
  expect_limit([] { checked_mul(kMax, TypeParam{2}, "row bytes"); });
  expect_limit([] { checked_mul(static_cast<TypeParam>(kMax / 2 + 1), TypeParam{2}, "row bytes"); });
}

TEST(CheckedArithmetic64, CatchesTheProductThatWrapsToFour) {
  // 4194305 * 4194305 * 211106198978564 is 4 modulo 2^64: a shape that once passed a loader.
  const std::uint64_t square = checked_mul<std::uint64_t>(4'194'305, 4'194'305, "row bytes");
  EXPECT_EQ(square, 17'592'194'433'025u);
  EXPECT_EQ(square * 211'106'198'978'564u, 4u);
  expect_limit([&] { checked_mul<std::uint64_t>(square, 211'106'198'978'564u, "row bytes"); });
}

}  // namespace
}  // namespace ag::test
