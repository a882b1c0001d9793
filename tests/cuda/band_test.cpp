// SPDX-License-Identifier: Apache-2.0
// The band against arithmetic that is as bad as the model allows, and what the device decides by it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../../cuda/stages/stages.hpp"
#include "support.hpp"
#include "support/random.hpp"

namespace ag::test {
namespace {

cuda::BandInput input(DType dtype, std::int64_t dim, double key_norm) {
  cuda::BandInput in;
  in.head_dim = dim;
  in.keys = 4096;
  in.dtype = dtype;
  in.scale = 1 / std::sqrt(static_cast<double>(dim));
  in.key_norm = key_norm;
  in.log_cut = std::log(0.01);
  return in;
}

// x cut off below the last bit that a float of size 2^exponent has.
double truncated(double x, int exponent) {
  const double unit = std::ldexp(1.0, exponent - 23);
  return std::trunc(x / unit) * unit;
}

// A tensor core as docs/numerics.md models it: products exact, all terms of a step cut off at the last bit of the
// largest, so is their sum.
double tensor_core_dot(const std::vector<double>& q, const std::vector<double>& k, int step) {
  double accumulator = 0;
  for (std::size_t d0 = 0; d0 < q.size(); d0 += static_cast<std::size_t>(step)) {
    double largest = std::abs(accumulator);
    const std::size_t end = std::min(q.size(), d0 + static_cast<std::size_t>(step));
    for (std::size_t d = d0; d < end; ++d) largest = std::max(largest, std::abs(q[d] * k[d]));
    if (largest == 0) continue;
    const int exponent = std::ilogb(largest);
    double sum = truncated(accumulator, exponent);
    for (std::size_t d = d0; d < end; ++d) sum += truncated(q[d] * k[d], exponent);
    accumulator = sum == 0 ? 0 : truncated(sum, std::ilogb(sum));
  }
  return accumulator;
}

double length(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

TEST(BandModel, HoldsForTensorCoresOfEveryStep) {
  Random random(11);
  double worst = 0;
  for (const std::int64_t dim : {16, 64, 128, 256}) {
    for (int trial = 0; trial < 200; ++trial) {
      std::vector<double> q, k;
      for (std::int64_t d = 0; d < dim; ++d) {
        // f16 values of one sign: cut-off terms add up.
        q.push_back(std::ldexp(std::floor(1024 + 1024 * random.uniform()), -8));
        k.push_back(std::ldexp(std::floor(1024 + 1024 * random.uniform()), -9));
      }
      double exact = 0;
      for (std::size_t d = 0; d < q.size(); ++d) exact += q[d] * k[d];
      const cuda::BandModel model = cuda::make_band_model(input(DType::kF16, dim, length(k)));
      for (const int step : {4, 8, 16}) {
        const double error = std::abs(tensor_core_dot(q, k, step) - exact) / std::sqrt(static_cast<double>(dim));
        ASSERT_LE(error, model.per_norm * length(q)) << "D " << dim << ", step " << step;
        worst = std::max(worst, error / (model.per_norm * length(q)));
      }
    }
  }
  EXPECT_GT(worst, 0.005) << "a bound that nothing comes near says nothing";
}

TEST(BandModel, HoldsForSplitProducts) {
  Random random(12);
  const auto half = [](double x) {  // the nearest f16 of a value below 2^11, subnormals included
    const int exponent = x == 0 ? -14 : std::max(std::ilogb(x), -14);
    const double unit = std::ldexp(1.0, exponent - 10);
    return std::nearbyint(x / unit) * unit;
  };
  for (int trial = 0; trial < 300; ++trial) {
    constexpr std::int64_t kDim = 64;
    std::vector<double> q, k;
    double exact = 0, split = 0;
    for (std::int64_t d = 0; d < kDim; ++d) {
      const auto draw = [&] {
        return static_cast<double>(static_cast<float>(1023 * random.uniform() * std::exp2(-random.below(24))));
      };
      q.push_back(draw());
      k.push_back(draw());
      const double qh = half(q.back()), kh = half(k.back()), ql = half(q.back() - qh), kl = half(k.back() - kh);
      exact += q.back() * k.back();
      split += qh * kh + qh * kl + ql * kh;
    }
    const cuda::BandModel model = cuda::make_band_model(input(DType::kF32, kDim, length(k)));
    ASSERT_LE(std::abs(split - exact) / 8, model.per_norm * length(q)) << trial;
  }
}

TEST(BandModel, GrowsWithTheRowAndStaysUsable) {
  const cuda::BandModel f16 = cuda::make_band_model(input(DType::kF16, 64, 20));
  EXPECT_LT(f16.band(4.0), 1e-3) << "scores up to 10";
  EXPECT_LT(f16.band(20.0), 2e-3) << "scores up to 50";
  EXPECT_GT(f16.band(1e5), cuda::kWidestBand) << "scores up to 250,000: double";
  const cuda::BandModel f64 = cuda::make_band_model(input(DType::kF64, 64, 20));
  EXPECT_LT(f64.band(20.0), 1e-11);
  cuda::BandInput masked = input(DType::kF16, 64, 20);
  masked.additive_mask = true;
  const cuda::BandModel mask = cuda::make_band_model(masked);
  EXPECT_GT(mask.bias_error(10.0), 0) << "of a row whose maximum is known";
  EXPECT_LT(mask.eps(4.0, 10.0), 1e-3);
  EXPECT_FALSE(mask.too_wide(1e3));
  EXPECT_TRUE(mask.too_wide(-1e6));
}

TEST(BandModel, SlopesCountLikeBiasesAndBesideAMaskAsWhole) {
  cuda::BandInput in = input(DType::kF16, 64, 20);
  const cuda::BandModel plain = cuda::make_band_model(in);
  in.alibi_bound = 4000;
  const cuda::BandModel sloped = cuda::make_band_model(in);
  EXPECT_GT(sloped.bias_error(10.0), 0);
  EXPECT_LT(sloped.eps(4.0, 10.0), 1e-3) << "keys that matter are near: their biases are no larger than scores";
  EXPECT_LT(sloped.band(4.0), plain.band(4.0) * 1.2);
  EXPECT_TRUE(sloped.too_wide(-1e5)) << "all keys are far";
  in.additive_mask = true;
  EXPECT_GT(cuda::make_band_model(in).band(4.0), plain.band(4.0) + 12 * 0x1p-24 * 4000)
      << "one bias may hide the other";
}

TEST(BandModel, OfAnotherLargestKeyIsProportional) {
  for (const DType dtype : {DType::kF16, DType::kF32, DType::kF64}) {
    const cuda::BandModel scaled = cuda::make_band_model(input(dtype, 64, 1)).with_key_norm(17.5);
    const cuda::BandModel made = cuda::make_band_model(input(dtype, 64, 17.5));
    EXPECT_NEAR(scaled.band(3.0), made.band(3.0), 1e-12 * made.band(3.0));
    EXPECT_NEAR(scaled.eps(3.0, 1.0), made.eps(3.0, 1.0), 1e-12 * made.eps(3.0, 1.0));
  }
}

// Two chunks: of the second, queries 1 to 3 of four are asked for.
struct Judged {
  std::vector<cuda::ChunkFacts> facts;
  std::vector<cuda::Chunk> chunks;
  std::vector<std::uint8_t> bad;
};
Judged judge(const std::vector<double>& q_norms, const std::vector<double>& k_norms, const cuda::JudgeRules& rules) {
  const auto half_q = static_cast<std::int64_t>(q_norms.size() / 2),
             half_k = static_cast<std::int64_t>(k_norms.size() / 2);
  const DeviceArray<double> d_q(q_norms), d_k(k_norms);
  const DeviceArray<std::uint8_t> bad(k_norms.size());
  std::vector<cuda::Chunk> chunks(2);
  cuda::Batch batch;
  for (std::int64_t n = 0; n < 2; ++n) {
    cuda::Chunk& c = chunks[static_cast<std::size_t>(n)];
    c.heads = 2;
    c.all_queries = half_q / 2;
    c.query_begin = n;
    c.queries = c.all_queries - n;
    c.keys = c.mask.key_count = half_k;
    c.q_norms = d_q.data() + n * half_q;
    c.k_norms = d_k.data() + n * half_k;
    c.mask.bad_keys = bad.data();
  }
  const DeviceArray<cuda::Chunk> d_chunks(chunks);
  const DeviceArray<cuda::ChunkFacts> d_facts(2);
  batch.chunks = d_chunks.data();
  batch.facts = d_facts.data();
  batch.count = 2;
  batch.keys = half_k;
  batch.head_dim = 64;
  cuda_ok(cuda::launch_judge_chunks(batch, rules, bad.data(), kDefaultStream));
  wait_for_device();
  Judged judged{d_facts.download(), d_chunks.download(), {}};
  if (judged.facts[1].bad_keys > 0)
    judged.bad = bad.download(static_cast<std::size_t>(half_k), static_cast<std::size_t>(half_k));
  return judged;
}

TEST(JudgeChunks, FindTheLargestAndWhatIsNotFinite) {
  cuda::JudgeRules rules;
  rules.band = cuda::make_band_model(input(DType::kBF16, 64, 1));
  rules.band_f64 = cuda::make_band_model(input(DType::kF64, 64, 1));
  rules.scale = -0.125;
  std::vector<double> q(2000, 1.0), k(3000, 2.0);
  const double nan = std::nan("");
  q[1000] = nan;  // chunk 1, head 0, query 0: not asked for
  q[1500] = nan;  // head 1, query 0: nor that
  q[1777] = nan;  // head 1, query 277
  q[1990] = nan;
  q[1003] = 9;
  k[1500 + 700] = nan;
  k[1500 + 1400] = nan;
  k[1500 + 3] = 4;
  for_every_schedule([&] {
    const Judged judged = judge(q, k, rules);
    const cuda::ChunkFacts &clean = judged.facts[0], &other = judged.facts[1];
    EXPECT_EQ(clean.bad_queries + clean.bad_keys, 0);
    EXPECT_EQ(clean.first_bad_query, -1);
    EXPECT_EQ(judged.chunks[0].mask.bad_keys, nullptr) << "no flags, no looking at them";
    EXPECT_FALSE(clean.in_double());
    EXPECT_EQ(other.query_norm, 9);
    EXPECT_EQ(other.key_norm, 4);
    EXPECT_EQ(other.bad_queries, 2);
    EXPECT_EQ(other.first_bad_query, 777);
    EXPECT_EQ(other.bad_keys, 2);
    EXPECT_EQ(other.first_bad_key, 700);
    for (std::size_t j = 0; j < 1500; ++j) ASSERT_EQ(judged.bad[j], j == 700 || j == 1400 ? 1 : 0);
    EXPECT_EQ(other.units.query_xor, 0x80008000u) << "a negative scale is in the query's signs";
    EXPECT_NEAR(other.units.unit, 0.125 * 1.4426950408889634, 1e-7);
    EXPECT_NEAR(other.band.band(9), 2 * (rules.band.per_norm * 4 * 9 + rules.band.constant) + rules.band.sum, 1e-12);
  });
}

TEST(JudgeChunks, SendWhatFloatCannotHoldToDouble) {
  cuda::JudgeRules rules;
  rules.band = cuda::make_band_model(input(DType::kF16, 64, 1));
  rules.scale = 0.125;
  const auto in_double = [&](double q_norm, double k_norm) {
    return judge({1, 1, 1, 1, 1, 1, 1, q_norm}, {1, 1, 1, k_norm}, rules).facts[1].in_double();
  };
  EXPECT_FALSE(in_double(20, 20));
  EXPECT_TRUE(in_double(300, 300)) << "a band wider than 1/64";
  EXPECT_TRUE(in_double(1e-20, 1e31)) << "beyond float";
  rules.always_double = true;
  EXPECT_TRUE(in_double(1, 1));
}

TEST(JudgeChunks, SplitsKeepEveryValueBelow1024) {
  cuda::JudgeRules rules;
  rules.band = cuda::make_band_model(input(DType::kF32, 64, 1));
  rules.splits_f32 = true;
  rules.scale = 1;
  for (const double norm : {1.0, 1.999, 2.0, 3e-5, 700.0}) {
    const cuda::ScoreUnits units = judge({0, 0, 0, 0, 0, 0, 0, norm}, {0, 0, 0, norm}, rules).facts[1].units;
    EXPECT_LT(std::ldexp(norm, units.q_exponent), 1024);
    EXPECT_GE(std::ldexp(norm, units.q_exponent), 512);
    EXPECT_EQ(units.k_exponent, units.q_exponent);
    EXPECT_NEAR(units.natural_unit, std::ldexp(1.0, -2 * units.q_exponent), 1e-12 * units.natural_unit);
  }
}

}  // namespace
}  // namespace ag::test
