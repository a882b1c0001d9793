// SPDX-License-Identifier: Apache-2.0
// Backend `cpu`: vectorised, threaded, one pass. The default, and the product for everyone without a GPU.
#include <sched.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <string>

#include "../backend/backend.hpp"
#include "extract.hpp"
#include "kernels.hpp"

namespace ag {
namespace {

// What a container may use: "max 100000" or "50000 100000" (microseconds of every period).
double cgroup_cores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return HUGE_VAL;
  return std::strtod(quota.c_str(), nullptr) / period;
}

int usable_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // More processors than the set has room for: an error, and all that are online count.
  const int allowed =
      sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, static_cast<int>(std::min<double>(allowed, std::ceil(cgroup_cores()))));
}

std::size_t cache_bytes(int name, std::size_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<std::size_t>(bytes) : otherwise;
}

class CpuBackend final : public Backend {
 public:
  std::string_view name() const override { return "cpu"; }

  DeviceInfo device() const override {
    DeviceInfo device;
    device.kind = "cpu";
    device.target = cpu::kernels<float>().target;
    device.threads = usable_threads();
    device.lanes_f32 = cpu::lanes_f32();
    device.vector_registers = cpu::vector_registers();
    device.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
    device.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 1 << 20);
    return device;
  }

  RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    return signed_report(cpu::extract(problem, plan, sink, control));
  }

  RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    return signed_report(cpu::filter(problem, plan, sink, control));
  }

 private:
  static RunReport signed_report(RunReport report) {
    report.backend = "cpu";
    report.target = cpu::kernels<float>().target;
    return report;
  }
};

}  // namespace

const Backend& cpu_backend() {
  static const CpuBackend backend;
  return backend;
}

}  // namespace ag
