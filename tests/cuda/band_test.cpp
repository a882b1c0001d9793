// SPDX-License-Identifier: Apache-2.0
// The band against arithmetic that is as bad as the model allows, and its launcher.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../../cuda/common/stages.hpp"
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
  EXPECT_GT(mask.band(4.0), cuda::kWidestBand) << "room for biases";
  EXPECT_LT(mask.eps(mask.band(4.0), 10.0), 1e-3) << "which the finished row gives back";
  EXPECT_FALSE(mask.too_wide(1e3));
  EXPECT_TRUE(mask.too_wide(-1e6));
}

TEST(RowBands, AreRoundedUpAndKnowUnusableRows) {
  const cuda::BandModel model = cuda::make_band_model(input(DType::kBF16, 128, 3));
  Random random(2);
  std::vector<double> norms;
  for (int n = 0; n < 1000; ++n) norms.push_back(n % 91 == 5 ? std::nan("") : 100 * random.uniform());
  const DeviceArray<double> d_norms(norms);
  for_every_schedule([&] {
    const DeviceArray<float> band(norms.size());
    const DeviceArray<std::uint8_t> unusable(norms.size());
    cuda_ok(cuda::launch_row_bands(d_norms.data(), 1000, model, band.data(), unusable.data(), kDefaultStream));
    wait_for_device();
    const auto bands = band.download();
    const auto flags = unusable.download();
    for (std::size_t n = 0; n < norms.size(); ++n) {
      ASSERT_EQ(flags[n], std::isnan(norms[n]) ? 1 : 0);
      if (std::isnan(norms[n])) continue;
      ASSERT_GE(static_cast<double>(bands[n]), model.band(norms[n]));
      ASSERT_LE(static_cast<double>(bands[n]), model.band(norms[n]) * (1 + 0x1p-20));
    }
  });
}

}  // namespace
}  // namespace ag::test
