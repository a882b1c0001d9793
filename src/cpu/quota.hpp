// SPDX-License-Identifier: Apache-2.0
// How many threads a container leaves to this process.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <istream>
#include <string>

namespace ag::cpu {

// The text of cpu.max of a control group: "max 100000" or "50000 100000", microseconds of every period. In cores;
// infinite when there is no limit or the text says nothing.
inline double quota_cores(std::istream& text) {
  std::string quota;
  double period = 0;
  if (!(text >> quota >> period) || !(period > 0)) return HUGE_VAL;
  const double cores = std::strtod(quota.c_str(), nullptr) / period;
  return quota != "max" && cores > 0 ? cores : HUGE_VAL;
}

// The same of the older control groups, whose two files hold a number each: the quota, -1 for none, and the period.
inline double quota_cores(std::istream& quota_us, std::istream& period_us) {
  double quota = 0, period = 0;
  if (!(quota_us >> quota) || !(period_us >> period) || !(quota > 0) || !(period > 0)) return HUGE_VAL;
  return quota / period;
}

// Half a core is one thread, one and a half are two: a thread more than whole cores waits now and then, one less never
// uses what there is.
inline int usable_threads(int allowed, double cores) {
  return std::max(1, static_cast<int>(std::min<double>(allowed, std::ceil(cores))));
}

}  // namespace ag::cpu
