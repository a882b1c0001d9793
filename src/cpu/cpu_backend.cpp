// SPDX-License-Identifier: Apache-2.0
// Backend `cpu`: vectorised, threaded, one pass. The default, and the product for everyone without a GPU.
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "../backend/backend.hpp"
#include "../plan/product.hpp"
#include "extract.hpp"
#include "kept_keys.hpp"
#include "kernels.hpp"
#include "pairs.hpp"
#include "product_rates.hpp"
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
  const std::string trouble = cpu::environment_trouble();
  return fmt::format("{}{}{}", by, no_tiles.empty() ? "" : fmt::format(" ({})", no_tiles),
                     trouble.empty() ? "" : "; " + trouble);
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
    device.product_is_forced = cpu::product_is_forced();
    device.facts = product_facts(device.product);
    device.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
    device.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 1 << 20);
    return device;
  }

  DeviceInfo device_for(const PlanShape& shape) const override {
    DeviceInfo info = device();
    if (shape.head_dim > 0) info.product_rates = cpu::product_rates(shape.dtype, shape.head_dim, info.threads);
    return info;
  }

  std::string choices() const override {
    std::string text;
    if (cpu::usable_product() != Product::kAmx) return text;
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const std::int64_t head_dim : kMeasuredHeadDims) {
        PlanShape shape;
        shape.dtype = dtype;
        shape.head_dim = head_dim;
        const std::string reason = choose_product(dtype, head_dim, device_for(shape)).reason;
        if (!reason.empty())
          text += fmt::format("{}{} D {}: {}", text.empty() ? "" : "; ", ag::name_of(dtype), head_dim, reason);
      }
    }
    return text;
  }

  RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    RunReport report = signed_report(cpu::extract(problem, plan, sink, control));
    report.target = plan.target;
    return report;
  }

  std::unique_ptr<KeptKeys> keep_keys(const TensorView& k) const override { return std::make_unique<cpu::KeptKeys>(k); }

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
