// SPDX-License-Identifier: Apache-2.0
// Statistics, candidates and dense weights of rows of raw scores against plain loops in double.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "../../cuda/materialised/kernels.hpp"
#include "score_rows.hpp"

namespace ag::test {
namespace {

// What the kernel says of all rows.
struct Softmaxed {
  std::vector<double> reference, sum, weighted;
  std::vector<std::int32_t> max_key, counts;
  std::vector<std::uint32_t> bits;
  std::vector<float> dense;

  bool operator==(const Softmaxed&) const = default;
};

Softmaxed run(const ScoreRows& rows, bool dense) {
  const std::size_t n = rows.row_count();
  const std::int64_t words = cuda::bit_words(rows.width());
  DeviceArray<double> reference(n), sum(n), weighted(n);
  DeviceArray<std::int32_t> max_key(n), counts(n);
  DeviceArray<std::uint32_t> bits(n * static_cast<std::size_t>(words));
  DeviceArray<float> weights(dense ? n * static_cast<std::size_t>(rows.keys) : 0);

  cuda::SoftmaxRows work;
  work.scores = rows.matrix();
  work.batch = rows.batch();
  work.states = {1, reference.data(), sum.data(), max_key.data(), weighted.data()};
  work.candidates = {bits.data(), words, nullptr};
  work.count = counts.data();
  work.top_k = rows.top_k;
  work.scale = rows.scale;
  work.softcap = rows.softcap;
  work.general = rows.general();
  if (dense) work.dense = {weights.data()};
  cuda_ok(cuda::launch_softmax_rows(work, kDefaultStream), "softmax_rows");
  wait_for_device();

  return {reference.download(), sum.download(),  weighted.download(), max_key.download(),
          counts.download(),    bits.download(), weights.download()};
}

// Every row of the answer against the definition.
void expect_right(const ScoreRows& rows, const Softmaxed& answer) {
  const std::int64_t words = cuda::bit_words(rows.width());
  for (std::size_t r = 0; r < rows.row_count(); ++r) {
    SCOPED_TRACE(fmt::format("row {}", r));
    const std::vector<double> s = rows.scores_of(r);  // by key, -inf where masked
    double maximum = -HUGE_VAL;
    for (const double x : s) maximum = std::max(maximum, x);
    double sum = 0, weighted = 0;
    for (const double x : s) {
      if (std::isinf(x)) continue;
      sum += std::exp(x - maximum);
      weighted += std::exp(x - maximum) * (x - maximum);
    }
    const bool empty = std::isinf(maximum);
    const double slack = 4e-7 * (2 + (empty ? 0 : std::abs(maximum)) + rows.largest_bias());
    double logsumexp = empty ? -HUGE_VAL : maximum + std::log(sum);
    if (empty) {
      EXPECT_EQ(answer.max_key[r], -1);
      EXPECT_EQ(answer.sum[r], 0.0);
      EXPECT_EQ(answer.weighted[r], 0.0);
      EXPECT_TRUE(std::isfinite(answer.reference[r]));
    } else {
      EXPECT_NEAR(answer.reference[r] + std::log(answer.sum[r]), logsumexp, slack);
      EXPECT_NEAR(answer.reference[r], maximum, 0.8);
      // The entropy that follows: ln(sum) - weighted / sum.
      EXPECT_NEAR(std::log(answer.sum[r]) - answer.weighted[r] / answer.sum[r], std::log(sum) - weighted / sum,
                  2e-5 + 10 * slack);
      ASSERT_GE(answer.max_key[r], 0);
      ASSERT_LT(answer.max_key[r], rows.keys);
      EXPECT_NEAR(s[static_cast<std::size_t>(answer.max_key[r])], maximum, slack);
      for (std::int32_t j = 0; j < answer.max_key[r]; ++j) EXPECT_LT(s[static_cast<std::size_t>(j)], maximum);
    }

    // Candidates: all that may be edges, none that is further off than the band and a little.
    if (rows.given) logsumexp = (*rows.given)[r];
    if (!rows.sinks.empty() && !rows.given) {
      const double sink = rows.sinks[r / static_cast<std::size_t>(rows.queries)];
      const double high = std::max(logsumexp, sink);
      if (!std::isinf(high)) logsumexp = high + std::log(std::exp(logsumexp - high) + std::exp(sink - high));
    }
    double cut = logsumexp + rows.log_threshold;
    if (rows.top_k > 0) {
      std::vector<double> best = s;
      std::sort(best.begin(), best.end(), std::greater<>());
      if (rows.top_k <= static_cast<std::int64_t>(best.size()))
        cut = std::max(cut, best[static_cast<std::size_t>(rows.top_k - 1)]);
    }
    std::int64_t count = 0;
    for (std::int64_t c = 0; c < words * 32; ++c) {
      const bool marked =
          answer.bits[r * static_cast<std::size_t>(words) + static_cast<std::size_t>(c / 32)] >> (c % 32) & 1u;
      count += marked;
      const std::int64_t j = rows.key_begin() + c;
      const double x = j < rows.keys ? s[static_cast<std::size_t>(j)] : -HUGE_VAL;
      if (std::isinf(x)) {
        EXPECT_FALSE(marked) << "key " << j << " is masked";
      } else if (x >= cut) {
        EXPECT_TRUE(marked) << "key " << j << " with score " << x << " and cut " << cut;
      } else if (rows.top_k == 0 && x < maximum - 1.01 * rows.band - 1e-4 - slack &&
                 x < cut - 1.01 * rows.band - 1e-4 - slack) {
        EXPECT_FALSE(marked) << "key " << j << " with score " << x << " and cut " << cut;
      }
    }
    EXPECT_TRUE(rows.top_k == 0 || count <= rows.top_k + rows.top_k / 8 + 5) << count << ": scores are told apart";
    EXPECT_EQ(answer.counts[r], count);
    if (answer.dense.empty()) continue;
    for (std::int64_t j = 0; j < rows.keys; ++j) {
      const double x = s[static_cast<std::size_t>(j)];
      const double weight = std::isinf(x) ? 0 : std::exp(x - logsumexp);
      const float got = answer.dense[r * static_cast<std::size_t>(rows.keys) + static_cast<std::size_t>(j)];
      EXPECT_TRUE(std::abs(static_cast<double>(got) - weight) <= (2e-5 + 2 * slack) * weight + 1e-37)
          << "key " << j << " weighs " << got << ", expected " << weight;
    }
  }
}

void check(const ScoreRows& rows, bool dense = true) {
  std::optional<Softmaxed> first;
  for_every_schedule([&] {
    const Softmaxed answer = run(rows, dense);
    expect_right(rows, answer);
    EXPECT_TRUE(!first || answer == *first) << "the same bits in every order";
    first = answer;
  });
}

TEST(SoftmaxRows, RowsOfEveryLength) {
  for (const std::int64_t keys : {1, 2, 31, 127, 128, 129, 1000, 1024, 1025, 3000}) {
    SCOPED_TRACE(fmt::format("{} keys", keys));
    ScoreRows rows(2, 5, keys, 1);
    check(rows);
  }
}

TEST(SoftmaxRows, LongRowsAreReadTwice) {
  for (const std::int64_t keys : {8192 + 77, 32768 + 513}) {
    SCOPED_TRACE(fmt::format("{} keys", keys));
    ScoreRows rows(1, 2, keys, 2);
    check(rows);
  }
}

TEST(SoftmaxRows, CausalWindowAndLength) {
  for (const bool causal : {true, false}) {
    for (const std::int64_t window : {0, 1, 40, 300}) {
      for (const std::int64_t offset : {0, -4, 700}) {
        SCOPED_TRACE(fmt::format("causal {} window {} offset {}", causal, window, offset));
        ScoreRows rows(2, 9, 1100, 3);
        rows.query_begin = 250;
        rows.mask.causal = causal;
        rows.mask.window = window;
        rows.mask.query_offset = offset;
        rows.mask.key_count = 1000;
        check(rows);
      }
    }
  }
}

TEST(SoftmaxRows, QueriesBeforeTheFirstKeyHaveNone) {
  ScoreRows rows(1, 12, 200, 4);
  rows.mask.causal = 1;
  rows.mask.query_offset = -6;
  check(rows);
}

TEST(SoftmaxRows, MaskTensorsOfEveryType) {
  for (const DType dtype : {DType::kBool, DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t keys : {200, 2100}) {
      SCOPED_TRACE(fmt::format("{} with {} keys", name_of(dtype), keys));
      ScoreRows rows(3, 4, keys, 5);
      rows.head_ids = {1, 4, 5};
      rows.use_mask_tensor(dtype, 6);
      check(rows);
    }
  }
}

TEST(SoftmaxRows, BadKeysAreMaskedThoughTheirScoresAreNaN) {
  ScoreRows rows(2, 3, 1500, 6);
  rows.make_bad({0, 17, 128, 1499});
  check(rows);
}

TEST(SoftmaxRows, SoftcapAndScale) {
  for (const double softcap : {0.0, 2.0, 50.0}) {
    for (const double scale : {1.0, 0.125, -0.3, 11.0}) {
      SCOPED_TRACE(fmt::format("softcap {} scale {}", softcap, scale));
      ScoreRows rows(1, 4, 700, 7);
      rows.softcap = softcap;
      rows.scale = scale;
      check(rows);
    }
  }
}

TEST(SoftmaxRows, SlopesOfDistance) {
  for (const int causal : {0, 1}) {
    for (const std::int64_t keys : {200, 2100}) {
      ScoreRows rows(3, 4, keys, 13);
      rows.head_ids = {0, 2, 3};
      rows.mask.causal = causal;
      rows.mask.query_offset = keys / 2;
      rows.slopes = {0.25, 9, 0.004, 0};
      check(rows);
      rows.use_mask_tensor(DType::kF32, 4);
      check(rows);
    }
  }
}

TEST(SoftmaxRows, SinksOfEverySize) {
  ScoreRows rows(4, 3, 300, 8);
  rows.sinks = {0.5, -HUGE_VAL, 60.0, -700.0};
  rows.log_threshold = std::log(1e-9);
  check(rows);
}

TEST(SoftmaxRows, GivenLogsumexp) {
  ScoreRows rows(2, 4, 500, 9);
  rows.given = {6.0, -HUGE_VAL, HUGE_VAL, 1.0, 20.0, -3.0, 6.5, 7.0};
  check(rows);
}

TEST(SoftmaxRows, UnusableQueriesHaveNoKeys) {
  ScoreRows rows(2, 4, 500, 10);
  rows.unusable = {0, 1, 0, 0, 1, 1, 0, 0};
  check(rows);
}

TEST(SoftmaxRows, NoThresholdKeepsEveryAllowedPair) {
  ScoreRows rows(1, 6, 1300, 11);
  rows.log_threshold = -HUGE_VAL;
  rows.mask.causal = 1;
  rows.mask.query_offset = 900;
  check(rows);
}

TEST(SoftmaxRows, BandsWidenTheCut) {
  for (const double band : {0.0, 1e-3, 0.03}) {
    SCOPED_TRACE(fmt::format("band {}", band));
    ScoreRows rows(1, 4, 2000, 12);
    rows.band = static_cast<float>(band);
    check(rows);
  }
}

TEST(SoftmaxRows, ScoresFarApartAndFarFromZero) {
  for (const double shift : {-3000.0, 0.0, 2500.0}) {
    SCOPED_TRACE(fmt::format("shift {}", shift));
    ScoreRows rows(1, 4, 1400, 13);
    for (std::size_t n = 0; n < rows.raw.size(); ++n) rows.raw[n] = static_cast<float>(rows.raw[n] * 100.0f + shift);
    check(rows);
  }
}

TEST(SoftmaxRows, TopKLeavesOutWhatIsCertainlyLower) {
  for (const std::int64_t keys : {300, 1300, 9000}) {
    for (const std::int64_t top_k : {1, 7, 100, 299}) {
      SCOPED_TRACE(fmt::format("{} keys, top {}", keys, top_k));
      ScoreRows rows(1, 2, keys, 19);
      rows.top_k = top_k;
      rows.log_threshold = -HUGE_VAL;
      check(rows);
      rows.log_threshold = std::log(0.004);
      check(rows);
    }
  }
  ScoreRows rows(2, 6, 500, 20);
  rows.top_k = 4;
  rows.log_threshold = -HUGE_VAL;
  rows.mask.causal = 1;
  rows.mask.query_offset = -2;
  rows.use_mask_tensor(DType::kF32, 2);
  check(rows);
}

TEST(SoftmaxRows, TopKKeepsEveryTie) {
  ScoreRows rows(1, 2, 700, 21);
  std::fill(rows.raw.begin(), rows.raw.end(), 0.5f);
  rows.raw[10] = 3;
  rows.top_k = 5;
  rows.log_threshold = -HUGE_VAL;
  for_every_schedule([&] {
    const Softmaxed answer = run(rows, false);
    EXPECT_EQ(answer.counts, (std::vector<std::int32_t>{700, 700}));
  });
}

TEST(SoftmaxRows, EqualScoresKeepTheFirstAsMaximum) {
  ScoreRows rows(1, 3, 1600, 14);
  std::fill(rows.raw.begin(), rows.raw.end(), 1.25f);
  rows.log_threshold = std::log(1.0 / 1600);
  check(rows);
}

// cuBLAS may give columns of equal keys products that differ in the last bit: the first that may be the largest is a
// candidate, for finish_rows to decide, also where no key is an edge.
TEST(SoftmaxRows, TheFirstOfNearlyEqualScoresIsACandidate) {
  for (const std::int64_t keys : {90, 1600, 9000}) {
    ScoreRows rows(1, 1, keys, 22);
    std::fill(rows.raw.begin(), rows.raw.end(), 1.25f);
    rows.raw[ScoreRows::size(keys / 2)] = std::nextafter(1.25f, 2.0f);
    rows.log_threshold = std::log(0.5);
    const Softmaxed answer = run(rows, false);
    EXPECT_EQ(answer.counts[0], 1);
    EXPECT_EQ(answer.bits[0], 1u) << "key 0";
    EXPECT_EQ(answer.max_key[0], keys / 2);
  }
}

TEST(SoftmaxRows, AscendingScoresMoveTheReferenceInEveryTile) {
  ScoreRows rows(1, 2, 9000, 15);
  for (std::size_t n = 0; n < rows.raw.size(); ++n) rows.raw[n] = 0.02f * static_cast<float>(n % 9000);
  check(rows);
}

TEST(SoftmaxRows, NoRowsAndNoKeys) {
  ScoreRows none(0, 5, 100, 16);
  cuda::SoftmaxRows work;
  work.scores = none.matrix();
  work.batch = none.batch();
  work.candidates.words = cuda::bit_words(none.width());
  EXPECT_EQ(cuda::launch_softmax_rows(work, kDefaultStream), cudaSuccess);
  ScoreRows keyless(1, 3, 50, 17);
  keyless.mask.key_count = 0;
  check(keyless);
}

TEST(SoftmaxRows, RefusesBitsOfAnotherShape) {
  ScoreRows rows(1, 2, 300, 18);
  cuda::SoftmaxRows work;
  work.scores = rows.matrix();
  work.batch = rows.batch();
  work.candidates.words = 4;
  EXPECT_EQ(cuda::launch_softmax_rows(work, kDefaultStream), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace ag::test
