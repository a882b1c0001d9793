// SPDX-License-Identifier: Apache-2.0
// Backend `cpu`: vectorised, threaded, one pass. The default, and the product for everyone without a GPU.
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "../backend/backend.hpp"
#include "extract.hpp"
#include "kernels.hpp"
#include "pairs.hpp"
#include "quota.hpp"

namespace ag {
namespace {

int threads_of_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // More processors than the set has room for: an error, and all that are online count.
  const int allowed =
      sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  std::ifstream quota("/sys/fs/cgroup/cpu.max");
  std::ifstream quota_us("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period_us("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  return cpu::usable_threads(allowed, std::min(cpu::quota_cores(quota), cpu::quota_cores(quota_us, period_us)));
}

std::string product_facts(Product product) {
  const std::string no_tiles = product == Product::kAmx ? "" : cpu::why_no_tiles();
  const std::string by = product == Product::kFloat ? "products in float" : fmt::format("bf16 by {}", name_of(product));
  return no_tiles.empty() ? by : fmt::format("{} ({})", by, no_tiles);
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
    device.threads = threads_of_this_process();
    device.vector_registers = cpu::vector_registers();
    device.product = cpu::usable_product();
    device.facts = product_facts(device.product);
    device.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
    device.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 1 << 20);
    return device;
  }

  RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    RunReport report = signed_report(cpu::extract(problem, plan, sink, control));
    report.target = plan.target;
    return report;
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
