// SPDX-License-Identifier: Apache-2.0
// Peak memory of a stretch of work, as the operating system counts it (Linux; elsewhere 0).
#pragma once

#include <cstdint>

namespace ag::bench {

std::int64_t resident_bytes();
std::int64_t peak_resident_bytes();

// Since its making: how far the peak rose above what was resident then. Freed memory is given back first, so that an
// earlier row does not pay for a later one.
class PeakMemory {
 public:
  PeakMemory();
  std::int64_t bytes() const { return peak_resident_bytes() - before_; }

 private:
  std::int64_t before_;
};

}  // namespace ag::bench
