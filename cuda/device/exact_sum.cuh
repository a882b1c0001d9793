// SPDX-License-Identifier: Apache-2.0
// Sums in twice the digits of double.
#pragma once

#include "macros.cuh"

namespace ag::cuda {

// A sum whose bits do not depend on the order of its terms, but for cases that are as rare as those 2^-106 from a tie:
// candidates that turn out to be no edges stand at other places when a row is computed among other rows.
struct ExactSum {
  double high = 0, low = 0;
  __device__ void add(double x) {
    const double sum = high + x;
    const double of_x = sum - high;
    low += (high - (sum - of_x)) + (x - of_x);
    high = sum;
  }
  __device__ void add(const ExactSum& other) {
    low += other.low;
    add(other.high);
  }
  __device__ double value() const { return high + low; }
  __device__ double less(double what) const { return (high - what) + low; }
};

}  // namespace ag::cuda
