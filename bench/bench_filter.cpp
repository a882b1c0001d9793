// SPDX-License-Identifier: Apache-2.0
// A ready matrix, through the public door: every stored weight is read once, so the limit is the speed of memory (or of
// the cache that holds the matrix). Rows are named filter/BACKEND/DTYPE/N:4096/t:0.01/threads:1.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <attngraph/attngraph.hpp>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "inputs.hpp"
#include "machine.hpp"
#include "memory.hpp"
#include "timing.hpp"
#include "verify.hpp"

namespace {

using namespace ag::bench;

struct Row {
  std::string backend = "cpu";
  attngraph_dtype dtype = ATTNGRAPH_F32;
  std::int64_t n = 4096;
  double threshold = 0.01;
  std::int32_t threads = 1;

  std::string name() const {
    return fmt::format("filter/{}/{}/N:{}/t:{}/threads:{}", backend, dtype_name(dtype), n, threshold, threads);
  }
};

// One at a time: the largest is half a gigabyte.
const MatrixInput& input_of(const Row& row) {
  static std::unique_ptr<MatrixInput> made;
  static std::string made_for;
  const std::string key = fmt::format("{} {}", dtype_name(row.dtype), row.n);
  if (key != made_for) {
    made.reset();
    made = std::make_unique<MatrixInput>(row.n, row.dtype);
    made_for = key;
  }
  return *made;
}

// The best rate seen so far, as for the FMA peak.
double memory_rate(std::int64_t bytes) {
  static double best = 0;
  best = std::max(best, measure_read(0.05, static_cast<std::size_t>(bytes)));
  return best;
}

void filter(benchmark::State& state, const Row& row) {
  static std::set<std::string> checked;
  const MatrixInput& input = input_of(row);
  attngraph::context context("cpu");
  const attngraph::options how =
      attngraph::options().backend(row.backend).threshold(row.threshold).threads(row.threads);
  if (checked.insert(row.name()).second) {
    try {
      check_filter(context, input.weights(), how, context.filter(input.weights(), how));
    } catch (const std::exception& e) {
      state.SkipWithError(e.what());
      return;
    }
  }
  const double read_rate = memory_rate(256 << 20);
  const PeakMemory memory;
  std::int64_t edges = 0;
  const double seconds = time_loop(state, [&] { edges = context.filter(input.weights(), how).edge_count(); });
  const std::int64_t memory_bytes = memory.bytes();

  const auto bytes = static_cast<double>(input.input_bytes());
  const double weights = static_cast<double>(row.n) * static_cast<double>(row.n);
  state.counters["weights/s"] = weights / seconds;
  state.counters["bytes/s"] = bytes / seconds;
  state.counters["memory_read_%"] = 100 * bytes / seconds / read_rate;
  state.counters["edges"] = static_cast<double>(edges);
  state.counters["density"] = static_cast<double>(edges) / weights;
  state.counters["memory_MiB"] = static_cast<double>(memory_bytes) / 0x1p20;
}

void add(const Row& row) {
  static std::set<std::string> added;
  if (!added.insert(row.name()).second) return;
  benchmark::RegisterBenchmark(row.name().c_str(), [row](benchmark::State& state) { filter(state, row); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  add({.backend = "reference", .n = 1024});
  for (const std::int64_t n : {1024, 2048, 4096, 8192}) add({.n = n});
  for (const attngraph_dtype dtype : {ATTNGRAPH_F16, ATTNGRAPH_BF16, ATTNGRAPH_F64}) add({.dtype = dtype});
  for (const double threshold : {0.0001, 0.001, 0.1}) add({.threshold = threshold});
  const auto cores = static_cast<std::int32_t>(std::thread::hardware_concurrency());
  for (std::int32_t threads = 2; threads <= cores; threads *= 2) add({.threads = threads});
  benchmark::AddCustomContext("target", measured_target());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
