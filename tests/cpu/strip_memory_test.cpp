// SPDX-License-Identifier: Apache-2.0
// Packed strips stay where they are while there are more of them, and what nobody needs any more is given back.
#include "cpu/strip_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ag::cpu {
namespace {

constexpr std::int64_t kValues = 40 * 512;  // of a strip of D = 40: 25 of them in 2 MiB
constexpr std::size_t kStripBytes = kValues * sizeof(float), kBlockBytes = std::size_t{2} << 20;

class Memory : public ::testing::Test {
 protected:
  // Strips [begin, end), each filled with its number.
  void make(std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      float* strip = memory_.make(s);
      EXPECT_EQ(strip, memory_.at(s));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(strip) % 64, 0u);
      std::fill_n(strip, kValues, static_cast<float>(s));
    }
  }
  void expect(std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      EXPECT_EQ(memory_.make(s), memory_.at(s)) << "made anew: " << s;
      for (std::int64_t n = 0; n < kValues; ++n) ASSERT_EQ(memory_.at(s)[n], static_cast<float>(s)) << s;
    }
  }
  StripMemory<float> memory_;
};

TEST_F(Memory, OfAFewStripsIsTheirOwn) {
  for (std::int64_t count = 1; count <= 25; ++count) {
    memory_.grow(count, kValues);
    make(count - 1, count);
    EXPECT_EQ(memory_.bytes(), static_cast<std::size_t>(count) * kStripBytes);
  }
  expect(0, 25);
}

TEST_F(Memory, OfManyIsInBlocksOfWholePages) {
  memory_.grow(10, kValues);
  make(0, 10);
  const float* const third = memory_.at(3);
  memory_.grow(70, kValues);
  make(10, 70);
  EXPECT_EQ(memory_.at(3), third) << "moved";
  EXPECT_EQ(memory_.bytes(), 10 * kStripBytes + 3 * kBlockBytes);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory_.at(25)) % kBlockBytes, 0u);
  EXPECT_EQ(memory_.at(26) - memory_.at(25), kValues) << "side by side";
  expect(0, 70);
}

TEST_F(Memory, IsGivenBackWithTheStripsOfABlock) {
  memory_.grow(100, kValues);
  make(0, 100);
  EXPECT_EQ(memory_.bytes(), 4 * kBlockBytes);
  memory_.truncate(51);
  EXPECT_EQ(memory_.bytes(), 3 * kBlockBytes);
  memory_.truncate(50);
  EXPECT_EQ(memory_.bytes(), 2 * kBlockBytes);
  expect(0, 50);
  memory_.grow(100, kValues);
  make(50, 100);
  memory_.drop_before(24);
  EXPECT_EQ(memory_.bytes(), 4 * kBlockBytes);
  memory_.drop_before(50);
  EXPECT_EQ(memory_.bytes(), 2 * kBlockBytes);
  expect(50, 100);
  memory_.clear();
  EXPECT_EQ(memory_.bytes(), 0u);
}

// A window over a long sequence: few strips at a time, and no block for them.
TEST_F(Memory, OfAWindowIsAsSmallAsThatOfItsStrips) {
  for (std::int64_t s = 0; s < 200; ++s) {
    memory_.grow(s + 1, kValues);
    make(s, s + 1);
    if (s > 3) memory_.drop_before(s - 3);
    EXPECT_LE(memory_.bytes(), 5 * kStripBytes);
  }
  expect(196, 200);
}

TEST_F(Memory, StripsOfAnotherSizeBeginAnew) {
  memory_.grow(60, 2 * kValues);
  memory_.make(59)[0] = 1;
  memory_.grow(60, kValues);
  EXPECT_EQ(memory_.bytes(), 0u);
  make(0, 60);
  expect(0, 60);
}

// Nearly all of a block is strips, whatever their size: that of D = 576 is more than half of a page.
TEST(MemoryOf, AnySizeWastesAnEighthAtMost) {
  for (const std::int64_t d : {1, 24, 64, 80, 96, 128, 256, 576, 1024, 4096}) {
    StripMemory<float> memory;
    const std::int64_t strips = 8 * ((std::int64_t{1} << 21) / (d * 512 * 4) + 1);
    memory.grow(strips, d * 512);
    for (std::int64_t s = 0; s < strips; ++s) memory.make(s);
    const double used = static_cast<double>(strips * d * 512) * sizeof(float);
    EXPECT_LE(static_cast<double>(memory.bytes()), used * 8 / 7 + double{8 << 20}) << d;
  }
}

}  // namespace
}  // namespace ag::cpu
