// SPDX-License-Identifier: Apache-2.0
// Faults of the processor inside a kernel (a wild pointer, an exhausted stack, a division by zero) as failures of the
// kernel: the test program goes on. Not under AddressSanitizer, whose report says more, and on x86-64 only.
#pragma once

#include <signal.h>

#include <array>
#include <string>

namespace ag::emu {

// While a grid runs. The handlers of before are put back.
class FaultGuard {
 public:
  FaultGuard();
  ~FaultGuard();
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;

 private:
  bool active_ = false;
  std::array<struct sigaction, 3> before_{};
  stack_t stack_before_{};
};

// "softmax_kernel at cuda/materialised/softmax_rows.cu:70" of a place in the program, as far as addr2line knows it.
std::string describe_code(const void* place);

}  // namespace ag::emu
