// SPDX-License-Identifier: Apache-2.0
// What the core that runs a benchmark can do at best, measured: the denominators of every share. Rates are per second,
// of one thread, with the instruction set in use (cpu/targets.hpp can force another).
#pragma once

#include <cstddef>
#include <string>

namespace ag::bench {

// Single-precision floating-point operations: independent chains of fused multiply-adds that never leave registers.
// A multiply-add counts as two.
double measure_fma_f32(double seconds);

// Evaluations of the backend's own 2^x, summed, on a buffer that stays in L1.
double measure_exp2_f32(double seconds);

// Bytes read, in order, from a buffer of this size: L1, L2, L3 or memory, by its size.
double measure_read(double seconds, std::size_t buffer_bytes);

// The instruction set in use.
std::string measured_target();

// As the system calls it: "AMD EPYC 9R14".
std::string processor_name();

// That this process may run on at once: affinity, not the machine.
int usable_threads_here();

// The highest FMA rate seen so far. On a shared machine one look may be slow, but none can be too fast; look again
// beside every row.
class FmaPeak {
 public:
  void look() {
    const double flops = measure_fma_f32(0.02);
    if (flops > flops_) flops_ = flops;
  }
  double flops() const { return flops_; }

 private:
  double flops_ = 0;
};

}  // namespace ag::bench
