// SPDX-License-Identifier: Apache-2.0
#include "core/mask.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/rounding.hpp"

namespace ag::test {
namespace {

// The rules as docs and contract state them, one key at a time.
bool is_visible(const MaskRules& m, std::int64_t batch, std::int64_t i, std::int64_t j) {
  const std::int64_t distance = i + m.query_offset - j;
  if (!m.key_lengths.empty() && j >= m.key_lengths[static_cast<std::size_t>(batch)]) return false;
  if (m.causal && distance < 0) return false;
  return m.window == 0 || (distance < m.window && (m.causal || -distance < m.window));
}

TEST(MaskRange, IsTheSetOfVisibleKeys) {
  int rules = 0;
  for (const std::int64_t nk : {0, 1, 5, 9}) {
    for (const bool causal : {false, true}) {
      for (const std::int64_t offset : {-12, -3, -1, 0, 1, 4, 20}) {
        for (const std::int64_t window : {0, 1, 2, 5, 100}) {
          for (const bool lengths : {false, true}) {
            MaskRules mask;
            mask.causal = causal;
            mask.query_offset = offset;
            mask.window = window;
            if (lengths) mask.key_lengths = {nk, nk / 2, 0};
            ++rules;
            for (std::int64_t batch = 0; batch < 3; ++batch) {
              for (std::int64_t i = 0; i < 12; ++i) {
                const KeyRange range = mask.range(batch, i, nk);
                ASSERT_LE(0, range.begin);
                ASSERT_LE(range.begin, range.end);
                ASSERT_LE(range.end, nk);
                for (std::int64_t j = 0; j < nk; ++j) {
                  ASSERT_EQ(j >= range.begin && j < range.end, is_visible(mask, batch, i, j))
                      << "nk " << nk << " causal " << causal << " offset " << offset << " window " << window
                      << " batch " << batch << " i " << i << " j " << j;
                }
              }
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(rules, 4 * 2 * 7 * 5 * 2);
}

TEST(MaskRange, BothEndsGrowWithTheQuery) {
  for (const bool causal : {false, true}) {
    MaskRules mask;
    mask.causal = causal;
    mask.query_offset = -2;
    mask.window = 3;
    KeyRange last = mask.range(0, 0, 8);
    for (std::int64_t i = 1; i < 14; ++i) {
      const KeyRange range = mask.range(0, i, 8);
      EXPECT_LE(last.begin, range.begin);
      EXPECT_LE(last.end, range.end);
      last = range;
    }
  }
}

TEST(MaskRange, SizeIsNeverNegative) {
  EXPECT_EQ((KeyRange{3, 7}).size(), 4);
  EXPECT_EQ((KeyRange{7, 7}).size(), 0);
  EXPECT_EQ((KeyRange{9, 7}).size(), 0);
}

TEST(MaskBias, BoolKeepsOrMasks) {
  for (int n = 0; n < 256; ++n) {
    const auto byte = static_cast<unsigned char>(n);
    EXPECT_EQ(mask_bias(DType::kBool, &byte), n != 0 ? 0.0 : -HUGE_VAL);
  }
}

TEST(MaskBias, LowestFiniteValueAndMinusInfinityMask) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    unsigned char bytes[8];
    const auto bias = [&](double value) {
      store_rounded(dtype, value, bytes);
      return mask_bias(dtype, bytes);
    };
    EXPECT_EQ(bias(-HUGE_VAL), -HUGE_VAL) << name_of(dtype);
    EXPECT_EQ(bias(lowest_of(dtype)), -HUGE_VAL) << name_of(dtype);
    EXPECT_EQ(bias(lowest_of(dtype) / 2), lowest_of(dtype) / 2) << name_of(dtype);
    EXPECT_EQ(bias(-1.5), -1.5);
    EXPECT_EQ(bias(0.0), 0.0);
    EXPECT_EQ(bias(2.0), 2.0);
    EXPECT_EQ(bias(HUGE_VAL), HUGE_VAL) << "the caller refuses it";
    EXPECT_TRUE(std::isnan(bias(std::numeric_limits<double>::quiet_NaN()))) << "the caller refuses it";
  }
}

}  // namespace
}  // namespace ag::test
