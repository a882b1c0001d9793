// SPDX-License-Identifier: Apache-2.0
// Round to nearest, subnormals kept: what every decision about an edge assumes, whatever the caller's thread had set.
#pragma once

#include <cfenv>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace ag::api {

class DefaultFloatEnv {
 public:
  DefaultFloatEnv() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
#if defined(__SSE2__)
    // FE_DFL_ENV need not clear flush-to-zero and denormals-are-zero, which compilers' fast-math start-up code sets.
    _mm_setcsr(kDefaultCsr);
#endif
  }
  ~DefaultFloatEnv() { std::fesetenv(&saved_); }
  DefaultFloatEnv(const DefaultFloatEnv&) = delete;
  DefaultFloatEnv& operator=(const DefaultFloatEnv&) = delete;

 private:
#if defined(__SSE2__)
  static constexpr unsigned kDefaultCsr = 0x1F80;  // exceptions masked, nearest, FTZ and DAZ off
#endif
  std::fenv_t saved_{};
};

}  // namespace ag::api
