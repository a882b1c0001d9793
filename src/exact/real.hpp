// SPDX-License-Identifier: Apache-2.0
// Binary numbers of any length: what is left to decide when double has said what it can. Slow, and rarely asked.
#pragma once

#include <cstdint>
#include <vector>

namespace ag::exact {

// sign * magnitude * 2^exponent. Sums, differences and products are exact; truncated() is the only rounding.
class Real {
 public:
  Real() = default;              // 0
  explicit Real(double finite);  // exact

  // 1, -1 or 0.
  int sign() const { return limbs_.empty() ? 0 : negative_ ? -1 : 1; }
  // e with 2^e <= |x| < 2^(e + 1); the number must not be 0.
  std::int64_t log2_floor() const;
  Real magnitude() const;
  // x * 2^n
  Real scaled(std::int64_t n) const;
  // As a double, to its precision; +-HUGE_VAL and 0 beyond its range.
  double nearest() const;
  // Towards 0, to at most `bits` significant bits: off by less than 2^(1 - bits) |x|.
  Real truncated(int bits) const;
  // x / n, truncated to at least `bits` significant bits; n > 0.
  Real divided(std::uint32_t n, int bits) const;

  Real operator-() const;
  friend Real operator+(const Real& a, const Real& b);
  friend Real operator-(const Real& a, const Real& b) { return a + -b; }
  friend Real operator*(const Real& a, const Real& b);
  friend bool operator==(const Real& a, const Real& b) { return (a - b).sign() == 0; }
  friend bool operator<(const Real& a, const Real& b) { return (a - b).sign() < 0; }

 private:
  using Limbs = std::vector<std::uint32_t>;  // least significant first; the last one is not 0

  void trim();
  static int compare(const Limbs& a, const Limbs& b);

  bool negative_ = false;
  std::int64_t exponent_ = 0;
  Limbs limbs_;
};

// A number known up to `error`: the exact one lies within value +- error.
struct Ball {
  Real value;
  Real error;  // >= 0
};

Ball operator+(const Ball& a, const Ball& b);
Ball operator-(const Ball& a, const Ball& b);
// Rounded to `bits` significant bits.
Ball product(const Ball& a, const Ball& b, int bits);
// 1, -1: proven; 0: the ball holds 0.
int sign_of(const Ball& x);

// e^x to about `bits` significant bits. |x| stays below 2^20.
Ball exp(const Ball& x, int bits);
// cap * tanh(x / cap) to about `bits` significant bits; cap > 0.
Ball soft_cap(const Real& x, const Real& cap, int bits);
// ln 2
Ball ln2(int bits);

}  // namespace ag::exact
