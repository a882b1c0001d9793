// SPDX-License-Identifier: Apache-2.0
#include "real.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

namespace ag::exact {

namespace {

constexpr int kLimbBits = 32;

std::int64_t bit_length(const std::vector<std::uint32_t>& limbs) {
  return static_cast<std::int64_t>(limbs.size()) * kLimbBits - std::countl_zero(limbs.back());
}

std::vector<std::uint32_t> shifted_left(const std::vector<std::uint32_t>& limbs, std::int64_t bits) {
  const auto words = static_cast<std::size_t>(bits / kLimbBits);
  const auto rest = static_cast<int>(bits % kLimbBits);
  std::vector<std::uint32_t> out(limbs.size() + words + 1, 0);
  for (std::size_t n = 0; n < limbs.size(); ++n) {
    const std::uint64_t wide = static_cast<std::uint64_t>(limbs[n]) << rest;
    out[n + words] |= static_cast<std::uint32_t>(wide);
    out[n + words + 1] |= static_cast<std::uint32_t>(wide >> kLimbBits);
  }
  return out;
}

// Bits that fall off are lost.
std::vector<std::uint32_t> shifted_right(const std::vector<std::uint32_t>& limbs, std::int64_t bits) {
  const auto words = static_cast<std::size_t>(bits / kLimbBits);
  const auto rest = static_cast<int>(bits % kLimbBits);
  if (words >= limbs.size()) return {};
  std::vector<std::uint32_t> out(limbs.size() - words);
  for (std::size_t n = 0; n < out.size(); ++n) {
    const std::uint64_t high = n + words + 1 < limbs.size() ? limbs[n + words + 1] : 0;
    out[n] = static_cast<std::uint32_t>(((high << kLimbBits) | limbs[n + words]) >> rest);
  }
  return out;
}

}  // namespace

Real::Real(double finite) {
  if (finite == 0) return;
  int exponent = 0;
  const double fraction = std::frexp(std::abs(finite), &exponent);
  const auto bits = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
  negative_ = finite < 0;
  exponent_ = exponent - 53;
  limbs_ = {static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> kLimbBits)};
  trim();
}

// Limbs of 0 at either end say nothing.
void Real::trim() {
  while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
  const auto first = std::find_if(limbs_.begin(), limbs_.end(), [](std::uint32_t limb) { return limb != 0; });
  exponent_ += kLimbBits * (first - limbs_.begin());
  limbs_.erase(limbs_.begin(), first);
  if (limbs_.empty()) *this = Real();
}

int Real::compare(const Limbs& a, const Limbs& b) {
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  for (std::size_t n = a.size(); n-- > 0;) {
    if (a[n] != b[n]) return a[n] < b[n] ? -1 : 1;
  }
  return 0;
}

std::int64_t Real::log2_floor() const { return exponent_ + bit_length(limbs_) - 1; }

Real Real::magnitude() const {
  Real out = *this;
  out.negative_ = false;
  return out;
}

Real Real::scaled(std::int64_t n) const {
  Real out = *this;
  if (!limbs_.empty()) out.exponent_ += n;
  return out;
}

Real Real::operator-() const {
  Real out = *this;
  out.negative_ = !negative_ && !limbs_.empty();
  return out;
}

double Real::nearest() const {
  if (limbs_.empty()) return 0;
  double value = 0;
  std::int64_t exponent = exponent_ + kLimbBits * static_cast<std::int64_t>(limbs_.size());
  for (std::size_t n = limbs_.size(); n-- > 0 && limbs_.size() - n <= 4;) {
    exponent -= kLimbBits;
    value +=
        std::ldexp(static_cast<double>(limbs_[n]), static_cast<int>(std::clamp<std::int64_t>(exponent, -4000, 4000)));
  }
  return negative_ ? -value : value;
}

Real Real::truncated(int bits) const {
  if (limbs_.empty()) return *this;
  const std::int64_t excess = bit_length(limbs_) - bits;
  if (excess <= 0) return *this;
  Real out = *this;
  out.limbs_ = shifted_right(limbs_, excess);
  out.exponent_ += excess;
  out.trim();
  return out;
}

Real Real::divided(std::uint32_t n, int bits) const {
  if (limbs_.empty()) return *this;
  const std::int64_t more = std::max<std::int64_t>(0, bits + kLimbBits - bit_length(limbs_));
  Real out = *this;
  out.limbs_ = shifted_left(limbs_, more);
  out.exponent_ -= more;
  std::uint64_t rest = 0;
  for (std::size_t k = out.limbs_.size(); k-- > 0;) {
    const std::uint64_t wide = (rest << kLimbBits) | out.limbs_[k];
    out.limbs_[k] = static_cast<std::uint32_t>(wide / n);
    rest = wide % n;
  }
  out.trim();
  return out;
}

Real operator+(const Real& a, const Real& b) {
  if (a.limbs_.empty()) return b;
  if (b.limbs_.empty()) return a;
  const std::int64_t exponent = std::min(a.exponent_, b.exponent_);
  Real::Limbs x = shifted_left(a.limbs_, a.exponent_ - exponent);
  Real::Limbs y = shifted_left(b.limbs_, b.exponent_ - exponent);
  const std::size_t size = std::max(x.size(), y.size()) + 1;
  x.resize(size);
  y.resize(size);
  Real out;
  out.exponent_ = exponent;
  if (a.negative_ == b.negative_) {
    std::uint64_t carry = 0;
    for (std::size_t n = 0; n < size; ++n) {
      carry += static_cast<std::uint64_t>(x[n]) + y[n];
      x[n] = static_cast<std::uint32_t>(carry);
      carry >>= kLimbBits;
    }
    out.negative_ = a.negative_;
  } else {
    const bool swap = Real::compare(x, y) < 0;
    if (swap) std::swap(x, y);
    std::int64_t borrow = 0;
    for (std::size_t n = 0; n < size; ++n) {
      const std::int64_t wide = static_cast<std::int64_t>(x[n]) - y[n] + borrow;
      x[n] = static_cast<std::uint32_t>(wide);
      borrow = wide < 0 ? -1 : 0;
    }
    out.negative_ = swap ? b.negative_ : a.negative_;
  }
  out.limbs_ = std::move(x);
  out.trim();
  return out;
}

Real operator*(const Real& a, const Real& b) {
  if (a.limbs_.empty() || b.limbs_.empty()) return {};
  Real out;
  out.negative_ = a.negative_ != b.negative_;
  out.exponent_ = a.exponent_ + b.exponent_;
  out.limbs_.assign(a.limbs_.size() + b.limbs_.size(), 0);
  for (std::size_t i = 0; i < a.limbs_.size(); ++i) {
    std::uint64_t carry = 0;
    for (std::size_t j = 0; j < b.limbs_.size(); ++j) {
      carry += static_cast<std::uint64_t>(a.limbs_[i]) * b.limbs_[j] + out.limbs_[i + j];
      out.limbs_[i + j] = static_cast<std::uint32_t>(carry);
      carry >>= kLimbBits;
    }
    out.limbs_[i + b.limbs_.size()] = static_cast<std::uint32_t>(carry);
  }
  out.trim();
  return out;
}

namespace {

constexpr int kErrorBits = 32;  // an error need not be known well, but never too small

// A few bits of x >= 0, rounded up.
Real rounded_up(const Real& x) {
  if (x.sign() == 0) return x;
  const Real few = x.truncated(kErrorBits);
  return few + Real(1).scaled(few.log2_floor() - kErrorBits + 1);
}

Ball rounded(const Real& x, const Real& error, int bits) {
  Ball out{x.truncated(bits), error};
  if (x.sign() != 0) out.error = rounded_up(error + Real(1).scaled(x.log2_floor() - bits + 1));
  return out;
}

}  // namespace

Ball operator+(const Ball& a, const Ball& b) { return {a.value + b.value, rounded_up(a.error + b.error)}; }
Ball operator-(const Ball& a, const Ball& b) { return {a.value - b.value, rounded_up(a.error + b.error)}; }

Ball product(const Ball& a, const Ball& b, int bits) {
  const Real error = a.value.magnitude() * b.error + b.value.magnitude() * a.error + a.error * b.error;
  return rounded(a.value * b.value, rounded_up(error), bits);
}

int sign_of(const Ball& x) {
  return x.value.magnitude() < x.error || x.value.magnitude() == x.error ? 0 : x.value.sign();
}

Ball exp(const Ball& x, int bits) {
  // e^x = (e^(x / 2^r))^(2^r), with |x / 2^r| < 2^-8: each term of the series is 8 bits smaller than the last.
  constexpr int kStep = 8;
  const Real reach = x.value.magnitude() + x.error;
  if (reach.sign() == 0) return {Real(1), Real()};
  const std::int64_t halvings = std::max<std::int64_t>(0, reach.log2_floor() + 1 + kStep);
  const int working = bits + static_cast<int>(2 * halvings) + 32;
  const Ball small{x.value.scaled(-halvings), x.error.scaled(-halvings)};
  Ball sum{Real(1), Real()}, term{Real(1), Real()};
  const int terms = working / kStep + 2;
  for (int n = 1; n <= terms; ++n) {
    term = product(term, small, working);
    term.value = term.value.divided(static_cast<std::uint32_t>(n), working);
    term.error = rounded_up(term.error + Real(1).scaled(-std::int64_t{kStep} * n - working));
    sum = sum + term;
    sum = rounded(sum.value, sum.error, working);
  }
  // What follows is a geometric series of ratio below 2^-8.
  sum.error = rounded_up(sum.error + Real(1).scaled(-std::int64_t{kStep} * terms));
  for (std::int64_t n = 0; n < halvings; ++n) sum = product(sum, sum, working);
  return sum;
}

Ball ln2(int bits) {
  // 2 atanh(1 / 3): every term is more than 3 bits smaller than the last.
  const int working = bits + 32;
  Real power = Real(2).divided(3, working), sum = power;
  const int terms = working / 3 + 2;
  for (int n = 1; n <= terms; ++n) {
    power = power.divided(9, working);
    sum = sum + power.divided(static_cast<std::uint32_t>(2 * n + 1), working);
  }
  return {sum, Real(2 * terms + 8).scaled(-working)};
}

namespace {

// 1 / x by Newton's iteration, checked at the end.
Ball reciprocal(const Ball& x, int bits) {
  const std::int64_t exponent = x.value.log2_floor();
  const Real unit = x.value.scaled(-exponent);  // magnitude in [1, 2)
  Real guess = Real(x.value.sign() > 0 ? 0.7 : -0.7);
  for (int n = 0; n < 40; ++n) {
    const Real off = Real(1) - unit * guess;
    if (off.sign() == 0 || off.log2_floor() < -bits) break;
    guess = (guess + guess * off).truncated(bits + 32);
  }
  // |1/u - g| = |1 - u g| / |u|, and the divisor's own error moves the quotient by at most twice its share.
  const Real off = (Real(1) - unit * guess).magnitude();
  const Real share = x.error.scaled(1 - exponent);
  return {guess.scaled(-exponent), rounded_up((off + share.scaled(1)).scaled(-exponent))};
}

}  // namespace

Ball soft_cap(const Real& x, const Real& cap, int bits) {
  if (x.sign() == 0) return {};
  const Ball ratio = product({x.magnitude(), Real()}, reciprocal({cap, Real()}, bits + 64), bits + 64);
  const std::int64_t size = ratio.value.log2_floor();
  // Where tanh is 1 but for less than anybody asks for.
  Ball tanh{Real(1), Real(1).scaled(-std::int64_t{bits} - 64)};
  if (size < 20 && ratio.value < Real(bits + 64)) {
    const int working = bits + 64 + static_cast<int>(std::max<std::int64_t>(0, -size));
    const Ball twice = product(ratio, {Real(-2), Real()}, working + 64);
    const Ball e = exp(twice, working);
    const Ball one{Real(1), Real()};
    tanh = product(one - e, reciprocal(one + e, working), working);
  }
  if (x.sign() < 0) tanh.value = -tanh.value;
  return product(tanh, {cap, Real()}, bits + 64);
}

}  // namespace ag::exact
