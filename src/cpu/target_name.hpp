// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <hwy/highway.h>

#include <cstdint>

namespace ag::cpu {

// Highway's names, but for the one that nobody else uses.
inline const char* target_name(std::int64_t target) {
#if HWY_ARCH_X86
  if (target == HWY_AVX3) return "AVX512";
#endif
  return hwy::TargetName(target);
}

}  // namespace ag::cpu
