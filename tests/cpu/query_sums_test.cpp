// SPDX-License-Identifier: Apache-2.0
// The kernel of sums over queries, by every instruction set of this machine: each weight is added once, at its key and
// at its distance, and nothing beside them is touched.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "cpu/aligned_buffer.hpp"
#include "cpu/kernels.hpp"
#include "cpu/targets.hpp"

namespace ag {
namespace {

template <class T>
void add_and_compare(std::int64_t count, double tolerance) {
  constexpr std::int64_t kRoom = 64, kSpare = 16;
  constexpr T kReference = 3, kRest = static_cast<T>(0.25);
  cpu::AlignedBuffer<T> x;
  x.reserve(kRoom + kSpare);
  for (std::int64_t j = 0; j < kRoom + kSpare; ++j)
    x.data()[j] = j % 7 == 5 ? -std::numeric_limits<T>::infinity() : static_cast<T>(static_cast<double>(j % 11) - 8);
  // What stands around the sums stays as it was; so do those that are not asked for.
  const std::size_t places = static_cast<std::size_t>(kRoom + 2 * kSpare);
  for (const bool by_key : {true, false}) {
    std::vector<double> received(places, 0.5), distances(places, 0.5);
    cpu::kernels<T>().add_masses(x.data(), count, kReference, kRest, by_key ? received.data() + kSpare : nullptr,
                                 by_key ? nullptr : distances.data() + kSpare + kRoom - 1);
    for (std::int64_t j = -kSpare; j < kRoom + kSpare; ++j) {
      const bool added = j >= 0 && j < count;
      const double score = added ? static_cast<double>(x.data()[j]) : 0.0;
      const double want = 0.5 + (added ? std::exp2(score - 3.25) : 0.0);
      EXPECT_NEAR(received[static_cast<std::size_t>(kSpare + j)], by_key ? want : 0.5, tolerance) << count << " " << j;
      EXPECT_NEAR(distances[static_cast<std::size_t>(kSpare + kRoom - 1 - j)], by_key ? 0.5 : want, tolerance)
          << count << " " << j;
    }
  }
}

TEST(QuerySums, AreOfEveryWeightOnceByEveryInstructionSet) {
  for (const std::string& target : cpu_targets()) {
    SCOPED_TRACE(target);
    force_cpu_target(target);
    for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64}) {
      add_and_compare<float>(count, 1e-6);
      add_and_compare<double>(count, 1e-14);
    }
  }
  force_cpu_target("");
}

}  // namespace
}  // namespace ag
