// SPDX-License-Identifier: Apache-2.0
// Advice about pages changes no value, wherever the array begins and ends.
#include "core/huge_pages.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ag {
namespace {

TEST(HugePages, ArraysOfAnySizeKeepTheirValues) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4} << 20, (std::size_t{9} << 20) + 5}) {
    std::vector<std::uint8_t> bytes;
    bytes.reserve(size + 1);
    prefer_huge_pages(bytes.data(), bytes.capacity());
    bytes.assign(size, 7);
    prefer_huge_pages(bytes.data(), bytes.capacity());  // written already: the values stay
    EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 7), static_cast<std::ptrdiff_t>(size));
  }
  prefer_huge_pages(nullptr, 0);
}

}  // namespace
}  // namespace ag
