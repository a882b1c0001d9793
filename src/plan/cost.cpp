// SPDX-License-Identifier: Apache-2.0
#include "cost.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace ag {
namespace {

// Measured on one H100 80GB HBM3 with 16 host cores, 2026-11-26 (docs/gpu.md); what could not be measured says so.
constexpr double kContextSeconds = 0.226;   // the driver's context
constexpr double kOwnStartSeconds = 0.071;  // loading the kernels, streams, the first memory

// A core of the CPU: 9 heads of 8,192 (D 64) took 141 ms on 16 cores, 8 of 32,768 (D 128) 1,355 ms, where a score is
// worth 2 D + 60 operations: 2.5 and 6.3 x 10^10.
constexpr double kCpuOperations = 5e10, kCpuOperationsPerScore = 60;
constexpr double kCpuCallSeconds = 1e-3;  // threads, and the answer: 12 heads of 1,024 took 11 ms in all
constexpr double kCpuWeights = 1e9;       // of a ready matrix, a core; not measured there

// Scores a second of one of 132 multiprocessors at D = 64, both passes: the prototype's 1.65 x 10^12 in all for wgmma
// (16 heads of 16,384 in 2.6 ms). mma.sync, cuBLAS with our softmax, and double: 12 ms, 26 ms and some 50 times that.
constexpr double kWgmmaScores = 1.2e10, kMmaSyncScores = 2.7e9, kCublasScores = 1.2e9, kF64Scores = 1e8;
constexpr double kDeviceBytes = 1e10;                         // of a ready matrix, a multiprocessor; 2.93 TB/s in all
constexpr double kLaunchSeconds = 5e-6, kWaitSeconds = 2e-5;  // not measured; 32 heads of 1,024 bound them
constexpr double kLinkBytes = 1e10;  // host and device, from memory that is not pinned; not measured
constexpr double kEdgesOfARow = 8;   // of models' heads at usual thresholds
constexpr double kBytesOfAnEdge = 8, kBytesOfARow = 48;

double rows_of(const PlanShape& shape) {
  return static_cast<double>(shape.batch) * static_cast<double>(shape.query_heads) * static_cast<double>(shape.queries);
}

double cpu_seconds(const Plan& plan, const PlanShape& shape) {
  const double threads = std::max(plan.threads, 1);
  if (shape.head_dim == 0) return kCpuCallSeconds + pairs_of(shape) / (kCpuWeights * threads);
  const double operations = 2 * static_cast<double>(shape.head_dim) + kCpuOperationsPerScore;
  return kCpuCallSeconds + pairs_of(shape) * operations / (kCpuOperations * threads);
}

double scores_per_second(Kernel kernel, const PlanShape& shape) {
  // Products grow with D, the rest of a score does not.
  const double of_dim = 128.0 / (64.0 + static_cast<double>(shape.head_dim));
  switch (kernel) {
    case Kernel::kWgmma: return kWgmmaScores * of_dim;
    case Kernel::kMmaSync: return kMmaSyncScores * of_dim;
    case Kernel::kCublas: return kCublasScores * of_dim;
    default: return kF64Scores * of_dim;
  }
}

double cuda_seconds(const Plan& plan, const PlanShape& shape, const DeviceInfo& device) {
  const auto element = static_cast<double>(size_of(shape.dtype));
  const double devices = static_cast<double>(std::max<std::size_t>(plan.cuda.devices.size(), 1));
  const double multiprocessors = std::max(device.multiprocessors, 1);
  const double pairs = pairs_of(shape), rows = rows_of(shape);
  const double batches = static_cast<double>(std::max<std::int64_t>(plan.cuda.batches, 1));
  double bytes = rows * (kEdgesOfARow * kBytesOfAnEdge + kBytesOfARow), work = 0;
  if (shape.head_dim == 0) {
    if (shape.memory_device < 0) bytes += rows * static_cast<double>(shape.keys) * element;
    work = pairs * element / (kDeviceBytes * multiprocessors);
  } else {
    const double inputs = rows + static_cast<double>(shape.batch) * static_cast<double>(shape.key_heads) *
                                     static_cast<double>(shape.keys);
    if (shape.memory_device < 0) bytes += inputs * static_cast<double>(shape.head_dim) * element;
    if (shape.host_mask) bytes += rows * static_cast<double>(shape.keys);
    work = pairs / (scores_per_second(plan.kernel, shape) * multiprocessors);
  }
  const double host = batches * (static_cast<double>(plan.cuda.launches) * kLaunchSeconds + 2 * kWaitSeconds);
  return (work + host) / devices + bytes / kLinkBytes;
}

std::string in_words(double seconds) {
  return seconds < 0.01 ? fmt::format("{:.2g} ms", 1e3 * seconds)
         : seconds < 1  ? fmt::format("{:.0f} ms", 1e3 * seconds)
                        : fmt::format("{:.3g} s", seconds);
}

}  // namespace

double pairs_of(const PlanShape& shape) {
  const auto queries = static_cast<double>(shape.queries);
  double keys = static_cast<double>(shape.keys);
  if (shape.causal) keys = keys > queries ? keys - queries / 2 : keys / 2;
  if (shape.window > 0) keys = std::min(keys, static_cast<double>(shape.window));
  return static_cast<double>(shape.batch) * static_cast<double>(shape.query_heads) * queries * keys;
}

Cost cost_of(const Plan& plan, const PlanShape& shape, const DeviceInfo& device) {
  Cost cost;
  if (device.kind != "cuda") {
    cost.run = cpu_seconds(plan, shape);
    return cost;
  }
  if (!device.has_started) cost.start = kOwnStartSeconds + (device.has_context ? 0 : kContextSeconds);
  cost.run = cuda_seconds(plan, shape, device);
  return cost;
}

bool prefers_cuda(const Cost& cpu, const Cost& cuda, double& forgone) {
  if (cuda.run >= cpu.run) return false;
  if (cuda.total() < cpu.run + forgone) return true;
  forgone += cpu.run - cuda.run;
  return false;
}

std::string describe(const Cost& cpu, const Cost& cuda, const std::string& cuda_backend) {
  const std::string start = cuda.start > 0 ? fmt::format(" ({} of it to start)", in_words(cuda.start)) : std::string();
  return fmt::format("about {} on the CPU, {} by {}{}", in_words(cpu.run), in_words(cuda.total()), cuda_backend, start);
}

}  // namespace ag
