// SPDX-License-Identifier: Apache-2.0
#include "devices.hpp"

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include "../device/error.hpp"
#include "../streaming/shape.hpp"
#include "../wgmma/wgmma_pass.hpp"

namespace ag::cuda {
namespace {

constexpr std::string_view kBuiltFor = ATTNGRAPH_CUDA_ARCHITECTURES;

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

// Whether "80-real 90-real 120" has code for the device: of the same major and no larger minor number, or PTX of
// anything older.
bool has_code_for(int compute_capability) {
  std::string_view rest = kBuiltFor;
  if (rest == "emulated") return true;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
    const int built = std::atoi(std::string(word).c_str());
    const bool real = word.ends_with("-real");
    const bool special = word.find('a') < word.find('-') || word.find('f') < word.find('-');
    if (!word.ends_with("-virtual") && built / 10 == compute_capability / 10 && built <= compute_capability &&
        (!special || built == compute_capability))
      return true;
    if (!real && !special && built <= compute_capability) return true;
  }
  return false;
}

// ATTNGRAPH_CUDA_KERNEL=mma_sync leaves the wgmma kernels out, for comparisons.
bool wants_mma_sync() {
  const char* const wanted = std::getenv("ATTNGRAPH_CUDA_KERNEL");
  return wanted != nullptr && std::string_view(wanted) == "mma_sync";
}

std::string why_no_device(cudaError_t code, int driver) {
  if (driver == 0) return "there is no NVIDIA driver on this machine";
  if (code == cudaErrorInsufficientDriver) {
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    return fmt::format("the NVIDIA driver knows CUDA {} and this plugin needs {}; update the driver",
                       version_text(driver), version_text(runtime));
  }
  if (code == cudaErrorNoDevice || code == cudaSuccess) {
    return "the NVIDIA driver shows no device to this process (CUDA_VISIBLE_DEVICES may hide it)";
  }
  return fmt::format("the NVIDIA driver fails: {} ({})", cudaGetErrorString(code), cudaGetErrorName(code));
}

Devices ask_the_driver() {
  Devices found;
  DeviceInfo& info = found.info;
  info.kind = "cuda";
  info.target = "none";
  int driver = 0, count = 0;
  cudaDriverGetVersion(&driver);
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    cudaGetLastError();
    found.missing = why_no_device(code, driver);
  }
  std::string texts, unfit;
  for (int n = 0; n < count; ++n) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, n) != cudaSuccess) continue;
    const int capability = 10 * properties.major + properties.minor;
    const std::string text =
        fmt::format("{} (sm_{}, {} multiprocessors, {:.1f} GiB)", properties.name, capability,
                    properties.multiProcessorCount, static_cast<double>(properties.totalGlobalMem) / (1 << 30));
    texts += (texts.empty() ? "" : ", ") + fmt::format("device {}: {}", n, text);
    int has_pools = 0;
    cudaDeviceGetAttribute(&has_pools, cudaDevAttrMemoryPoolsSupported, n);
    if (has_pools == 0) {
      found.missing = fmt::format("{} has no memory pools (stream-ordered allocation)", text);
      continue;
    }
    if (!has_code_for(capability)) {
      unfit += (unfit.empty() ? "" : ", ") + text;
      continue;
    }
    if (info.devices.empty()) {
      info.target = properties.name;
      info.multiprocessors = properties.multiProcessorCount;
      info.memory_bytes = properties.totalGlobalMem;
      info.compute_capability = capability;
      info.has_wgmma = has_wgmma() && !wants_mma_sync();
      info.fused_rows = kStreamingRows;
      info.fused_head_dim = kLargestStreamingHeadDim;
      info.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
    }
    info.devices.push_back(n);
  }
  if (!info.devices.empty()) found.missing.clear();
  if (found.missing.empty() && info.devices.empty()) {
    found.missing = fmt::format(
        "this plugin is built for {}, which {} cannot run; rebuild with "
        "ATTNGRAPH_CUDA_ARCHITECTURES",
        kBuiltFor, unfit.empty() ? "the device" : unfit);
  }
  info.facts = fmt::format("{}, driver {}, built for {}", texts.empty() ? "no device" : texts,
                           driver == 0 ? "none" : "of CUDA " + version_text(driver), kBuiltFor);
  return found;
}

struct Asked {
  Devices devices = ask_the_driver();
  pid_t process = getpid();
};

const Asked& asked() {
  static const Asked once;
  return once;
}

std::atomic<bool>& started() {
  static std::atomic<bool> once{false};
  return once;
}

// Somebody else may have made the device's context: then it is not to be waited for. Asking makes none.
bool has_context(int device) {
#if defined(ATTNGRAPH_EMULATION)
  // Making an emulated one takes no time, unless a test wants to see what is done where it does.
  (void)device;
  return std::getenv("ATTNGRAPH_EMU_COLD") == nullptr;
#else
  using GetState = int (*)(int, unsigned*, int*);  // cuDevicePrimaryCtxGetState(CUdevice, flags, active)
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status{};
  const cudaError_t code =
      cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &found, 7000, cudaEnableDefault, &status);
  if (code != cudaSuccess || status != cudaDriverEntryPointSuccess) {
    cudaGetLastError();
    return true;
  }
  unsigned flags = 0;
  int active = 0;
  return reinterpret_cast<GetState>(found)(device, &flags, &active) != 0 || active != 0;
#endif
}

struct Loss {
  std::mutex mutex;
  std::string message;
};

Loss& loss() {
  static Loss one;
  return one;
}

}  // namespace

const Devices& devices() { return asked().devices; }

DeviceInfo device_info() {
  DeviceInfo info = devices().info;
  if (info.devices.empty()) return info;
  info.has_context = started() || has_context(info.devices.front());
#if defined(ATTNGRAPH_EMULATION)
  info.has_started = info.has_context;
#else
  info.has_started = started();
#endif
  return info;
}

void start_devices() { started() = true; }

Obstacle obstacle() {
  if (asked().process != getpid()) {
    return {Status::kForked,
            "this process was forked after its parent used CUDA, which does not survive that; use the device in "
            "processes started afresh (spawn)"};
  }
  {
    Loss& lost = loss();
    const std::lock_guard lock(lost.mutex);
    if (!lost.message.empty()) {
      return {Status::kDeviceLost, fmt::format("the device was lost: {}; start a new process", lost.message)};
    }
  }
  if (!devices().missing.empty()) return {Status::kNoDevice, devices().missing};
  return {};
}

void require_devices() {
  const Obstacle found = obstacle();
  if (found.status != Status::kOk) throw Error(found.status, found.sentence);
}

void lose_devices(const std::string& message) {
  Loss& lost = loss();
  const std::lock_guard lock(lost.mutex);
  if (lost.message.empty()) lost.message = message;
}

}  // namespace ag::cuda
