// SPDX-License-Identifier: Apache-2.0
// One target for libFuzzer: FUZZ_TARGET is its place in targets().
#include "targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ag::fuzz::targets()[FUZZ_TARGET].run({data, size});
  return 0;
}
