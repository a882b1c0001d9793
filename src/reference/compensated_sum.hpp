// SPDX-License-Identifier: Apache-2.0
// A sum whose rounding error does not grow with the number of terms (Neumaier 1974).
#pragma once

#include <cmath>

namespace ag::reference {

class CompensatedSum {
 public:
  void add(double term) {
    const double next = sum_ + term;
    lost_ += std::abs(sum_) >= std::abs(term) ? (sum_ - next) + term : (term - next) + sum_;
    sum_ = next;
  }
  double value() const { return sum_ + lost_; }

 private:
  double sum_ = 0;
  double lost_ = 0;
};

}  // namespace ag::reference
