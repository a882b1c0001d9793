// SPDX-License-Identifier: Apache-2.0
// Bits to packed pairs: the own kernel, Thrust and a plain loop agree.
#include <cmath>
#include <cstdint>
#include <vector>

#include "../../cuda/materialised/kernels.hpp"
#include "score_rows.hpp"

namespace ag::test {
namespace {

struct Packed {
  std::vector<std::int32_t> keys;
  std::vector<float> scores;
  bool operator==(const Packed&) const = default;
};

// Bits of rows, each set with probability `density`; none beyond `columns`.
struct Bits {
  Bits(std::int64_t rows, std::int64_t columns, double density, std::uint64_t seed)
      : words(cuda::bit_words(columns)), bits(ScoreRows::size(rows * words)), counts(ScoreRows::size(rows)) {
    Random random(seed);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        if (random.uniform() >= density) continue;
        bits[ScoreRows::size(r * words + c / 32)] |= 1u << (c % 32);
        ++counts[ScoreRows::size(r)];
      }
    }
    offsets.push_back(0);
    for (const std::int64_t count : counts) offsets.push_back(offsets.back() + count);
  }
  std::int64_t words;
  std::vector<std::uint32_t> bits;
  std::vector<std::int64_t> counts, offsets;
};

enum class Way { kBallot, kThrust };

// Pairs by the device. Places are counted from `first_place`, as if other chunks' pairs stood before.
Packed compact(Way way, const ScoreRows& rows, const Bits& bits, std::int64_t first_place = 0) {
  const std::size_t total = ScoreRows::size(bits.offsets.back());
  std::vector<std::int64_t> offsets = bits.offsets;
  for (std::int64_t& offset : offsets) offset += first_place;
  DeviceArray<std::uint32_t> d_bits(bits.bits);
  DeviceArray<std::int64_t> d_offsets(offsets);
  DeviceArray<std::int32_t> keys(total);
  DeviceArray<float> scores(total);
  cuda::CompactScores work;
  work.scores = rows.matrix();
  work.batch = rows.batch();
  work.candidates = {d_bits.data(), bits.words, nullptr};
  work.out = {keys.data() - first_place, scores.data() - first_place, nullptr, d_offsets.data(), 0};
  work.scale = rows.scale;
  work.softcap = rows.softcap;
  cuda_ok(way == Way::kThrust ? cuda::compact_thrust(work, kDefaultStream)
                              : cuda::launch_compact_ballot(work, kDefaultStream),
          "compaction");
  wait_for_device();
  return {keys.download(), scores.download()};
}

// The definition: keys in order, and scores near those in double.
void expect_right(const ScoreRows& rows, const Bits& bits, const Packed& packed) {
  std::size_t e = 0;
  for (std::size_t r = 0; r < rows.row_count(); ++r) {
    const std::vector<double> s = rows.scores_of(r);
    for (std::int64_t c = 0; c < rows.width(); ++c) {
      if ((bits.bits[r * ScoreRows::size(bits.words) + ScoreRows::size(c / 32)] >> (c % 32) & 1u) == 0) continue;
      ASSERT_LT(e, packed.keys.size());
      const std::int64_t key = rows.key_begin() + c;
      EXPECT_EQ(packed.keys[e], key) << "pair " << e << " of row " << r;
      const double expected = s[ScoreRows::size(key)] * 1.4426950408889634;
      EXPECT_NEAR(packed.scores[e], expected, 1e-6 * (4 + std::abs(expected))) << "pair " << e << " of row " << r;
      ++e;
    }
  }
  EXPECT_EQ(e, packed.keys.size());
}

void check(const ScoreRows& rows, const Bits& bits) {
  const Packed thrust = compact(Way::kThrust, rows, bits);
  expect_right(rows, bits, thrust);
  for_every_schedule([&] { EXPECT_EQ(compact(Way::kBallot, rows, bits), thrust); });
}

TEST(Compact, EveryDensity) {
  for (const double density : {0.0, 0.001, 0.03, 0.5, 0.97, 1.0}) {
    SCOPED_TRACE(fmt::format("density {}", density));
    const ScoreRows rows(1, 7, 700, 1);
    check(rows, Bits(7, 700, density, 2));
  }
}

TEST(Compact, RowsOfEveryLength) {
  for (const std::int64_t keys : {1, 31, 32, 33, 127, 128, 129, 1025, 8191, 8193, 20000}) {
    SCOPED_TRACE(fmt::format("{} keys", keys));
    const ScoreRows rows(1, 3, keys, 3);
    check(rows, Bits(3, keys, 0.02, 4));
  }
}

TEST(Compact, RowsThatAreFullNextToRowsThatAreEmpty) {
  const ScoreRows rows(1, 9, 300, 5);
  Bits bits(9, 300, 1.0, 6);
  for (const std::size_t r : {0u, 4u, 5u, 8u}) {
    for (std::int64_t w = 0; w < bits.words; ++w) bits.bits[r * ScoreRows::size(bits.words) + ScoreRows::size(w)] = 0;
    bits.counts[r] = 0;
  }
  for (std::size_t r = 0; r < 9; ++r) bits.offsets[r + 1] = bits.offsets[r] + bits.counts[r];
  check(rows, bits);
}

TEST(Compact, ScoresCarrySoftcapMaskAndTheFirstKey) {
  ScoreRows rows(3, 4, 900, 7);
  rows.head_ids = {0, 2, 3};
  rows.query_begin = 500;
  rows.mask.window = 300;
  rows.softcap = 3;
  rows.scale = 0.7;
  Bits bits(12, rows.width(), 0.0, 8);
  rows.use_mask_tensor(DType::kF16, 4);
  for (std::size_t r = 0; r < 12; ++r) {
    const std::vector<double> s = rows.scores_of(r);
    for (std::int64_t c = 0; c < rows.width(); c += 3) {
      if (std::isinf(s[ScoreRows::size(rows.key_begin() + c)])) continue;
      bits.bits[r * ScoreRows::size(bits.words) + ScoreRows::size(c / 32)] |= 1u << (c % 32);
      ++bits.counts[r];
    }
    bits.offsets[r + 1] = bits.offsets[r] + bits.counts[r];
  }
  ASSERT_GT(rows.key_begin(), 0);
  check(rows, bits);
}

TEST(Compact, PlacesBeyond32Bits) {
  const ScoreRows rows(1, 5, 400, 9);
  const Bits bits(5, 400, 0.3, 10);
  EXPECT_EQ(compact(Way::kBallot, rows, bits, std::int64_t{1} << 33), compact(Way::kBallot, rows, bits));
}

// Rows of fixed room: nothing is written beyond it.
TEST(Compact, RowsOfFixedRoom) {
  const ScoreRows rows(1, 4, 300, 13);
  const Bits bits(4, 300, 0.2, 14);
  const Packed packed = compact(Way::kBallot, rows, bits);
  constexpr std::int64_t kRoom = 50;
  const DeviceArray<std::uint32_t> d_bits(bits.bits);
  const DeviceArray<std::int32_t> keys(std::vector<std::int32_t>(4 * kRoom, -1));
  const DeviceArray<float> scores(4 * kRoom);
  cuda::CompactScores work;
  work.scores = rows.matrix();
  work.batch = rows.batch();
  work.candidates = {d_bits.data(), bits.words, nullptr};
  work.out = {keys.data(), scores.data(), nullptr, nullptr, kRoom};
  work.scale = rows.scale;
  cuda_ok(cuda::launch_compact_ballot(work, kDefaultStream));
  wait_for_device();
  const std::vector<std::int32_t> found = keys.download();
  for (std::size_t r = 0; r < 4; ++r) {
    for (std::int64_t n = 0; n < kRoom; ++n) {
      const bool exists = n < bits.counts[r];
      const std::int32_t expected = exists ? packed.keys[ScoreRows::size(bits.offsets[r] + n)] : -1;
      EXPECT_EQ(found[r * kRoom + ScoreRows::size(n)], expected);
    }
  }
}

TEST(Compact, NoRows) {
  const ScoreRows rows(0, 5, 100, 11);
  const Bits bits(0, 100, 1.0, 12);
  EXPECT_EQ(compact(Way::kBallot, rows, bits), Packed{});
  EXPECT_EQ(compact(Way::kThrust, rows, bits), Packed{});
}

}  // namespace
}  // namespace ag::test
