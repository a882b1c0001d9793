// SPDX-License-Identifier: Apache-2.0
// Long numbers: their balls hold the exact value, and shrink with the bits asked for.
#include "exact/real.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/random.hpp"
#include "wide.hpp"

namespace ag::test {
namespace {

using exact::Ball;
using exact::Real;

// Exact: a Wide is the sum of a few doubles.
Real real_of(Wide x) {
  Real out;
  for (int n = 0; n < 5 && x != 0; ++n) {
    const auto part = static_cast<double>(x);
    out = out + Real(part);
    x -= static_cast<Wide>(part);
  }
  return out;
}

bool holds(const Ball& ball, const Real& value, const Real& slack = {}) {
  return !(ball.error + slack < (ball.value - value).magnitude());
}

TEST(Real, SumsAndProductsAreExact) {
  Random random(1);
  for (int n = 0; n < 20000; ++n) {
    const double a = std::ldexp(random.normal(), static_cast<int>(random.below(60)) - 30);
    const double b = std::ldexp(random.normal(), static_cast<int>(random.below(60)) - 30);
    const double c = random.normal();
    EXPECT_TRUE((Real(a) + Real(b)) - Real(b) == Real(a));
    EXPECT_TRUE(Real(a) * (Real(b) + Real(c)) == Real(a) * Real(b) + Real(c) * Real(a));
    EXPECT_EQ(Real(a) < Real(b), a < b);
    EXPECT_EQ(Real(a).nearest(), a);
    const double product = a * b;
    EXPECT_TRUE(Real(product) + Real(std::fma(a, b, -product)) == Real(a) * Real(b));
  }
  EXPECT_EQ((Real(5e-324) * Real(5e-324)).log2_floor(), -2148);
  EXPECT_EQ((Real(3) - Real(3)).sign(), 0);
}

TEST(Real, BallsHoldWhat113BitsSay) {
  Random random(2);
  for (int n = 0; n < 400; ++n) {
    const double x = random.normal() * std::ldexp(1, static_cast<int>(random.below(16)) - 8);
    const Wide e = exp_of(static_cast<Wide>(x));
    for (const int bits : {64, 96, 200}) {
      const Ball ball = exact::exp({Real(x), Real()}, bits);
      EXPECT_TRUE(holds(ball, real_of(e), real_of(e * static_cast<Wide>(0x1p-88)))) << x;
      EXPECT_LT((ball.error).nearest(), std::ldexp(static_cast<double>(e), 8 - bits)) << x;
    }
    const double cap = std::abs(random.normal()) * 30 + 0.01;
    const Wide capped = static_cast<Wide>(cap) * tanh_of(static_cast<Wide>(x) / static_cast<Wide>(cap));
    const Ball ball = exact::soft_cap(Real(x), Real(cap), 96);
    EXPECT_TRUE(holds(ball, real_of(capped), real_of((abs_of(capped) + 1) * static_cast<Wide>(0x1p-60))))
        << x << ", cap " << cap;
    EXPECT_LT(ball.error.nearest(), 0x1p-80 * (1 + cap));
  }
  // Self-consistent beyond 113 bits: e^x e^-x is 1, at any length.
  for (const int bits : {96, 500, 3000}) {
    const Ball one =
        product(exact::exp({Real(1.75), Real()}, bits), exact::exp({Real(-1.75), Real()}, bits), bits + 32);
    EXPECT_TRUE(holds(one, Real(1)));
    EXPECT_LT(one.error.log2_floor(), 8 - bits);
    const Ball two = exact::exp(exact::ln2(bits), bits);
    EXPECT_TRUE(holds(two, Real(2)));
    EXPECT_LT(two.error.log2_floor(), 10 - bits);
  }
}

}  // namespace
}  // namespace ag::test
