// SPDX-License-Identifier: Apache-2.0
// A block of few rows is multiplied by a kernel of its own, and kept keys of 16 bits are packed as 16 bits: the same
// bits as the whole tile of whole values, every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "cpu/aligned_buffer.hpp"
#include "cpu/kernels.hpp"
#include "cpu/pairs.hpp"
#include "support/random.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

class FewRows : public ::testing::TestWithParam<std::string> {
 protected:
  FewRows() : forced_({"cpu", GetParam()}) {}

 private:
  ForcedTarget forced_;
};
INSTANTIATE_TEST_SUITE_P(, FewRows, ::testing::ValuesIn(cpu_targets()),
                         [](const auto& test) { return test_name(test.param); });

template <class T>
cpu::AlignedBuffer<T> random_values(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  cpu::AlignedBuffer<T> values;
  values.reserve(count);
  for (std::int64_t n = 0; n < count; ++n) values.data()[n] = static_cast<T>(random.normal());
  return values;
}

template <class T>
void are_those_of_the_tile() {
  const cpu::Kernels<T>& kernel = cpu::kernels<T>();
  ASSERT_NE(kernel.score_few, nullptr);
  constexpr std::int64_t kStrip = cpu::kStripKeys<T>;
  constexpr T kUntouched = T{1e9};
  for (const std::int64_t d : {1, 3, 64, 80}) {
    const cpu::AlignedBuffer<T> q = random_values<T>(kernel.rows_per_block * d, 1), k = random_values<T>(kStrip * d, 2);
    cpu::AlignedBuffer<T> whole, few;
    whole.reserve(kernel.rows_per_block * kStrip);
    few.reserve(kernel.rows_per_block * kStrip);
    const std::int64_t most = kStrip / kernel.panel_keys;
    for (const std::int64_t panels : {std::int64_t{1}, std::int64_t{2}, most - 1, most}) {
      kernel.score_strip(q.data(), k.data(), d, panels, T{1}, whole.data());
      for (std::int64_t rows = 1; rows <= cpu::kFewRows; ++rows) {
        std::fill_n(few.data(), few.size(), kUntouched);
        kernel.score_few(q.data(), k.data(), d, rows, panels, few.data());
        const std::int64_t keys = panels * kernel.panel_keys;
        for (std::int64_t r = 0; r < rows; ++r) {
          ASSERT_EQ(std::memcmp(whole.data() + r * kStrip, few.data() + r * kStrip,
                                static_cast<std::size_t>(keys) * sizeof(T)),
                    0)
              << "D = " << d << ", row " << r << " of " << rows << ", " << panels << " panels";
          if (keys < kStrip) {
            ASSERT_EQ(few.data()[r * kStrip + keys], kUntouched) << "keys that were not asked for";
          }
        }
        if (rows < kernel.rows_per_block) {
          ASSERT_EQ(few.data()[rows * kStrip], kUntouched) << "rows not asked for";
        }
      }
    }
  }
}

// Keys of all exponents, both zeros and the subnormals too.
TEST_P(FewRows, HaveTheSameBitsOfKeysPackedAsHalves) {
  constexpr std::int64_t kStrip = cpu::kStripKeys<float>;
  const cpu::Kernels<float>& whole = cpu::kernels<float>();
  const std::int64_t panel = whole.panel_keys, most = kStrip / panel, rows = whole.rows_per_block;
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const cpu::Kernels<float> half = cpu::product_kernels<float>(Product::kFloat, dtype, true);
    const bool is_half = half.score_strip != whole.score_strip;
    EXPECT_TRUE(is_half || dtype == DType::kF16) << "bf16 is widened by a shift";
    if (GetParam() == "AVX2" || GetParam() == "AVX512") {
      EXPECT_TRUE(is_half);
    }
    Random random(5);
    for (const std::int64_t d : {1, 3, 64, 80}) {
      SCOPED_TRACE(testing::Message() << name_of(dtype) << ", D = " << d);
      if (is_half) {
        EXPECT_EQ(half.key_depth(d), (d + 1) / 2);
      }
      const cpu::AlignedBuffer<float> q = random_values<float>(rows * d, 1);
      std::vector<float> keys(static_cast<std::size_t>(kStrip * d));
      for (float& key : keys) {
        auto bits = static_cast<std::uint16_t>(random.below(1 << 16));
        if (dtype == DType::kF16 && (bits & 0x7C00u) == 0x7C00u) bits ^= 0x4000u;  // not finite
        if (dtype == DType::kBF16 && (bits & 0x7F80u) > 0x5F80u) bits ^= 0x4000u;  // too large for sums
        key = dtype == DType::kF16 ? to_float(F16{bits}) : to_float(BF16{bits});
      }
      cpu::AlignedBuffer<float> whole_k, half_k, wanted, got;
      whole_k.reserve(kStrip * whole.key_depth(d));
      half_k.reserve(kStrip * half.key_depth(d));
      wanted.reserve(rows * kStrip);
      got.reserve(rows * kStrip);
      for (std::int64_t j = 0; j < kStrip; j += panel) {
        whole.pack_panel(keys.data() + j * d, d, whole_k.data() + j * whole.key_depth(d));
        half.pack_panel(keys.data() + j * d, d, half_k.data() + j * half.key_depth(d));
      }
      for (const std::int64_t panels : {std::int64_t{1}, most - 1, most}) {
        const auto expect_rows = [&](std::int64_t count) {
          for (std::int64_t r = 0; r < count; ++r)
            ASSERT_EQ(std::memcmp(wanted.data() + r * kStrip, got.data() + r * kStrip,
                                  static_cast<std::size_t>(panels * panel) * sizeof(float)),
                      0)
                << "row " << r << " of " << count << ", " << panels << " panels";
        };
        whole.score_strip(q.data(), whole_k.data(), d, panels, 1, wanted.data());
        half.score_strip(q.data(), half_k.data(), d, panels, 1, got.data());
        expect_rows(rows);
        for (std::int64_t few = 1; few <= cpu::kFewRows; ++few) {
          std::fill_n(got.data(), got.size(), 1e9f);
          half.score_few(q.data(), half_k.data(), d, few, panels, got.data());
          expect_rows(few);
        }
      }
    }
  }
}

TEST_P(FewRows, HaveTheBitsOfAWholeTileInFloat) { are_those_of_the_tile<float>(); }
TEST_P(FewRows, HaveTheBitsOfAWholeTileInDouble) { are_those_of_the_tile<double>(); }

}  // namespace
}  // namespace ag::test
