// SPDX-License-Identifier: Apache-2.0
#include "memory.hpp"

#include <fstream>
#include <string>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace ag::bench {
namespace {

std::int64_t status_kib(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) == 0) return std::stoll(line.substr(field.size() + 1));
  }
  return 0;
}

}  // namespace

std::int64_t resident_bytes() { return status_kib("VmRSS") * 1024; }
std::int64_t peak_resident_bytes() { return status_kib("VmHWM") * 1024; }

PeakMemory::PeakMemory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak is what is resident now
  before_ = resident_bytes();
}

}  // namespace ag::bench
