// SPDX-License-Identifier: Apache-2.0
// The CUDA backends on the device at hand: queries and keys in its memory to a graph in its memory, through the public
// door. Rows are named
//     gpu/BACKEND/DTYPE/D:64/N:8192/H:32/causal/t:0.01
// and beside them stands what would be possible: gpu/gemm is cuBLAS's product alone, in row chunks, scores written in
// f32: the floor of any pipeline that writes its scores. gpu/machine measures the device's own limits. L2 is cold
// before every run. Answers are checked against `reference` first.
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <attngraph/attngraph.hpp>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "../cuda/device/error.hpp"
#include "../cuda/materialised/cublas.hpp"
#include "inputs.hpp"
#include "verify.hpp"

namespace {

using namespace ag::bench;
using ag::cuda::cuda_check;

class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) { cuda_check(cudaMalloc(&data_, bytes), "cudaMalloc"); }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

void wait() { cuda_check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

// Every run begins with an L2 that holds nothing of its input.
void cool_l2() {
  static const std::size_t bytes = [] {
    int l2 = 0;
    cuda_check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0), "cudaDeviceGetAttribute");
    return std::max<std::size_t>(2 * static_cast<std::size_t>(l2), std::size_t{64} << 20);
  }();
  static const DeviceMemory other(bytes);
  cuda_check(cudaMemset(other.data(), 1, bytes), "cudaMemset");
  wait();
}

// Seconds of one run, by the host's clock: `work` may wait for the device itself.
double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double time_cold(benchmark::State& state, const std::function<void()>& work) {
  double total = 0;
  for (auto _ : state) {
    cool_l2();
    const double seconds = seconds_of(work);
    state.SetIterationTime(seconds);
    total += seconds;
  }
  return total / static_cast<double>(state.iterations());
}

double best_seconds(int runs, const std::function<void()>& work) {
  work();
  wait();
  double best = HUGE_VAL;
  for (int n = 0; n < runs; ++n) best = std::min(best, seconds_of(work));
  return best;
}

// Bytes per second of a copy in device memory, reads and writes counted.
double memory_rate() {
  static const double rate = [] {
    constexpr std::size_t kBytes = std::size_t{1} << 29;
    const DeviceMemory from(kBytes), to(kBytes);
    cuda_check(cudaMemset(from.data(), 1, kBytes), "cudaMemset");
    const double seconds = best_seconds(10, [&] {
      cuda_check(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, nullptr), "cudaMemcpyAsync");
    });
    return 2 * static_cast<double>(kBytes) / seconds;
  }();
  return rate;
}

std::int32_t word_of(attngraph_dtype dtype) { return static_cast<std::int32_t>(dtype); }

// Floating-point operations per second of cuBLAS on a large product: what this device's matrix units give in practice.
double product_rate(attngraph_dtype dtype) {
  const std::int64_t n = dtype == ATTNGRAPH_F32 ? 4096 : 8192;
  const std::size_t bytes = static_cast<std::size_t>(n * n) * dtype_size(dtype);
  const DeviceMemory q(bytes), k(bytes), scores(static_cast<std::size_t>(n * n) * 4), workspace(std::size_t{32} << 20);
  cuda_check(cudaMemset(q.data(), 0, bytes), "cudaMemset");
  cuda_check(cudaMemset(k.data(), 0, bytes), "cudaMemset");
  const ag::cuda::ScoreGemm gemm{word_of(dtype), q.data(), k.data(), n, n, n, static_cast<float*>(scores.data()), n};
  const double seconds =
      best_seconds(10, [&] { ag::cuda::queue_score_gemm(gemm, workspace.data(), std::size_t{32} << 20, nullptr); });
  const auto side = static_cast<double>(n);
  return 2 * side * side * side / seconds;
}
double product_rate_once(attngraph_dtype dtype) {
  static double rates[8] = {};
  double& rate = rates[static_cast<int>(dtype)];
  if (rate == 0) rate = product_rate(dtype);
  return rate;
}

struct Row {
  std::string backend;
  attngraph_dtype dtype = ATTNGRAPH_F16;
  std::int64_t head_dim = 64, n = 8192, heads = 1;
  bool causal = true;
  double threshold = 0.01;

  std::string name() const {
    return fmt::format("gpu/{}/{}/D:{}/N:{}/H:{}/{}{}", backend, dtype_name(dtype), head_dim, n, heads,
                       causal ? "causal" : "full", backend == "gemm" ? "" : fmt::format("/t:{}", threshold));
  }
  double scores() const {
    const auto side = static_cast<double>(n);
    return static_cast<double>(heads) * (causal ? side * (side + 1) / 2 : side * side);
  }
};

// The same head H times: all have their own keys.
struct DeviceInput {
  explicit DeviceInput(const Row& row)
      : host(row.n, row.head_dim, row.dtype),
        head_bytes(static_cast<std::size_t>(host.input_bytes()) / 2),
        q(head_bytes * static_cast<std::size_t>(row.heads)),
        k(head_bytes * static_cast<std::size_t>(row.heads)) {
    for (std::int64_t h = 0; h < row.heads; ++h) {
      const std::size_t at = head_bytes * static_cast<std::size_t>(h);
      copy(static_cast<std::byte*>(q.data()) + at, host.q().data());
      copy(static_cast<std::byte*>(k.data()) + at, host.k().data());
    }
  }
  void copy(void* to, const void* from) const {
    cuda_check(cudaMemcpy(to, from, head_bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  attngraph::tensor view(const DeviceMemory& memory, const Row& row) const {
    attngraph::tensor tensor(memory.data(), row.dtype, {row.heads, row.n, row.head_dim});
    return tensor.on_device(ATTNGRAPH_DEVICE_CUDA, 0);
  }

  QkInput host;
  std::size_t head_bytes;
  DeviceMemory q, k;
};

// One input at a time: a million rows of 128 are not kept for later.
const DeviceInput& input_of(const Row& row) {
  static std::unique_ptr<DeviceInput> made;
  static std::string name;
  const std::string wanted = fmt::format("{} {} {} {}", row.n, row.heads, row.head_dim, dtype_name(row.dtype));
  if (wanted != name) {
    made.reset();
    made = std::make_unique<DeviceInput>(row);
    name = wanted;
  }
  return *made;
}

bool first_visit(const std::string& name) {
  static std::set<std::string> visited;
  return visited.insert(name).second;
}

void add_shares(benchmark::State& state, const Row& row, double seconds) {
  const double flops = 2.0 * static_cast<double>(row.head_dim) * row.scores() / seconds;
  state.counters["scores/s"] = row.scores() / seconds;
  state.counters["product_peak_%"] = 100 * flops / product_rate_once(row.dtype);
}

void extract(benchmark::State& state, const Row& row) {
  try {
    const DeviceInput& input = input_of(row);
    attngraph::context context("cuda:0");
    const auto how = attngraph::options().backend(row.backend).threshold(row.threshold).causal(row.causal);
    if (first_visit(row.name())) {
      const attngraph::tensor q = input.host.q(), k = input.host.k();
      attngraph::context host("cpu");  // the device's context cannot run `reference`
      check_extract(host, q, k, how, {.threshold = row.threshold}, context.extract(q, k, how));
    }
    const attngraph::tensor q = input.view(input.q, row), k = input.view(input.k, row);
    std::int64_t edges = 0;
    const auto work = [&] { edges = context.extract_on_device(q, k, how).csr().edge_count; };
    work();  // module loading, the memory pool
    const double seconds = time_cold(state, work);
    add_shares(state, row, seconds);
    state.counters["edges"] = static_cast<double>(edges);
    state.counters["density"] = static_cast<double>(edges) / row.scores();
  } catch (const std::exception& e) {
    state.SkipWithError(e.what());
  }
}

// The product alone, row chunks of at most 1 GiB of scores; causal: only the keys that a chunk's last row sees.
void gemm(benchmark::State& state, const Row& row) {
  try {
    if (!ag::cuda::cublas_missing().empty()) throw std::runtime_error(ag::cuda::cublas_missing());
    const DeviceInput& input = input_of(row);
    const std::size_t workspace_bytes = std::size_t{32} << 20;
    const std::int64_t chunk = std::clamp<std::int64_t>((std::int64_t{1} << 28) / row.n / 128 * 128, 128, row.n);
    const DeviceMemory scores(static_cast<std::size_t>(chunk * row.n) * 4), workspace(workspace_bytes);
    double bytes = 0;
    const auto work = [&] {
      bytes = 0;
      for (std::int64_t h = 0; h < row.heads; ++h) {
        const std::size_t at = input.head_bytes * static_cast<std::size_t>(h);
        for (std::int64_t i = 0; i < row.n; i += chunk) {
          const std::int64_t rows = std::min(chunk, row.n - i), keys = row.causal ? i + rows : row.n;
          const std::size_t first = static_cast<std::size_t>(i * row.head_dim) * dtype_size(row.dtype);
          ag::cuda::queue_score_gemm({word_of(row.dtype), static_cast<std::byte*>(input.q.data()) + at + first,
                                      static_cast<std::byte*>(input.k.data()) + at, rows, keys, row.head_dim,
                                      static_cast<float*>(scores.data()), row.n},
                                     workspace.data(), workspace_bytes, nullptr);
          bytes += 4.0 * static_cast<double>(rows) * static_cast<double>(keys);
        }
      }
    };
    const double seconds = time_cold(state, work);
    add_shares(state, row, seconds);
    state.counters["memory_%"] = 100 * bytes / seconds / memory_rate();
  } catch (const std::exception& e) {
    state.SkipWithError(e.what());
  }
}

void add(const Row& row) {
  benchmark::RegisterBenchmark(
      row.name().c_str(),
      [row](benchmark::State& state) { row.backend == "gemm" ? gemm(state, row) : extract(state, row); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void add_machine(const std::string& name, const std::function<double()>& rate) {
  benchmark::RegisterBenchmark(("gpu/machine/" + name).c_str(),
                               [rate](benchmark::State& state) {
                                 try {
                                   for (auto _ : state) state.counters["best/s"] = rate();
                                 } catch (const std::exception& e) {
                                   state.SkipWithError(e.what());
                                 }
                               })
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}

void add_rows(bool large) {
  add_machine("copy_bytes", memory_rate);
  add_machine("product_f16", [] { return product_rate_once(ATTNGRAPH_F16); });
  add_machine("product_bf16", [] { return product_rate_once(ATTNGRAPH_BF16); });
  add_machine("product_f32", [] { return product_rate_once(ATTNGRAPH_F32); });

  struct Size {
    std::int64_t n, heads;
  };
  constexpr Size kSizes[] = {{1024, 32}, {4096, 32}, {16384, 16}, {65536, 2}, {262144, 1}, {1048576, 1}};
  for (const Size& size : kSizes) {
    if (size.n > 65536 && !large) continue;
    for (const std::int64_t head_dim : {64, 128}) {
      for (const bool causal : {true, false}) {
        if (size.n > 65536 && !causal) continue;
        for (const char* backend : {"cuda_streaming", "cuda_materialised", "gemm"}) {
          add({.backend = backend, .head_dim = head_dim, .n = size.n, .heads = size.heads, .causal = causal});
        }
      }
    }
  }
  for (const char* backend : {"cuda_streaming", "cuda_materialised", "gemm"}) {
    for (const attngraph_dtype dtype : {ATTNGRAPH_BF16, ATTNGRAPH_F32}) add({.backend = backend, .dtype = dtype});
    for (const std::int64_t head_dim : {32, 80, 96, 256}) add({.backend = backend, .head_dim = head_dim});
  }
  for (const char* backend : {"cuda_streaming", "cuda_materialised"}) {
    for (const double t : {0.001, 0.05, 0.5}) add({.backend = backend, .threshold = t});
    add({.backend = backend, .n = 1024, .threshold = 0.01});  // one short head: few blocks
    add({.backend = backend, .dtype = ATTNGRAPH_F32, .n = 16384, .heads = 16, .causal = false});
  }
}

}  // namespace

int main(int argc, char** argv) {
  bool large = false;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--large") == 0) {
      large = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  cudaDeviceProp device{};
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0 || cudaGetDeviceProperties(&device, 0) != cudaSuccess) {
    fmt::print(stderr, "bench_gpu: there is no CUDA device here\n");
    return 1;
  }
  benchmark::AddCustomContext("device", device.name);
  benchmark::AddCustomContext("compute capability", fmt::format("{}.{}", device.major, device.minor));
  benchmark::AddCustomContext("multiprocessors", fmt::format("{}", device.multiProcessorCount));
  benchmark::AddCustomContext("L2 MiB", fmt::format("{}", device.l2CacheSize >> 20));
  benchmark::AddCustomContext(
      "cuBLAS", ag::cuda::cublas_missing().empty() ? ag::cuda::cublas_description() : ag::cuda::cublas_missing());
  add_rows(large);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
