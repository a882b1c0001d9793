// SPDX-License-Identifier: Apache-2.0
// A block of few rows is multiplied by a kernel of its own: the same bits as the whole tile, every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "cpu/aligned_buffer.hpp"
#include "cpu/kernels.hpp"
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

TEST_P(FewRows, HaveTheBitsOfAWholeTileInFloat) { are_those_of_the_tile<float>(); }
TEST_P(FewRows, HaveTheBitsOfAWholeTileInDouble) { are_those_of_the_tile<double>(); }

}  // namespace
}  // namespace ag::test
