// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "../../cuda/stages/stages.hpp"
#include "support.hpp"
#include "support/random.hpp"

namespace ag::test {
namespace {

void expect_scanned(const std::vector<std::int64_t>& counts) {
  const auto n = static_cast<std::int64_t>(counts.size());
  const DeviceArray<std::int64_t> d_counts(counts), d_offsets(counts.size() + 1);
  const DeviceArray<std::byte> scratch(cuda::exclusive_scan_scratch_bytes(n));
  cuda_ok(cuda::launch_exclusive_scan(d_counts.data(), d_offsets.data(), n, scratch.data(), kDefaultStream));
  wait_for_device();
  const std::vector<std::int64_t> offsets = d_offsets.download();
  std::int64_t sum = 0;
  for (std::size_t r = 0; r < counts.size(); ++r) {
    ASSERT_EQ(offsets[r], sum) << r;
    sum += counts[r];
  }
  ASSERT_EQ(offsets[counts.size()], sum);
  EXPECT_EQ(d_counts.download(), counts);
}

TEST(ExclusiveScan, OffsetsAreTheSumsBefore) {
  Random random(9);
  // Around the sizes of a warp, a thread's share and a tile of 2048.
  for (const std::size_t n : {0u, 1u, 2u, 31u, 32u, 33u, 255u, 256u, 257u, 2047u, 2048u, 2049u, 5000u}) {
    SCOPED_TRACE(n);
    std::vector<std::int64_t> counts(n);
    for (std::int64_t& count : counts) count = random.below(50);
    for_every_schedule([&] { expect_scanned(counts); });
  }
}

TEST(ExclusiveScan, ManyTilesAreScannedByOneBlock) {
  std::vector<std::int64_t> counts(2048 * 300 + 17);  // more tiles than the block that scans them has threads
  for (std::size_t n = 0; n < counts.size(); ++n) counts[n] = static_cast<std::int64_t>(n % 7);
  expect_scanned(counts);
}

TEST(ExclusiveScan, SumsGoBeyondThirtyTwoBits) {
  expect_scanned(std::vector<std::int64_t>(3000, std::int64_t{1} << 31));
}

}  // namespace
}  // namespace ag::test
