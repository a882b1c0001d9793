// SPDX-License-Identifier: Apache-2.0
// The limits that every share is measured against, for each instruction set: machine/fma/TARGET, machine/exp2/TARGET;
// and machine/read/SIZE for the caches and memory. Times are of no interest here, the counter `best/s` is.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <string>

#include "cpu/targets.hpp"
#include "machine.hpp"

namespace {

using namespace ag::bench;

void add(const std::string& name, const std::string& target, double (*measure)()) {
  const auto run = [target, measure](benchmark::State& state) {
    ag::force_cpu_target(target);
    double best = 0;
    for (auto _ : state) best = std::max(best, measure());
    ag::force_cpu_target("");
    state.counters["best/s"] = best;
  };
  benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMillisecond)->Iterations(5);
}

template <std::size_t kBytes>
double read_rate() {
  return measure_read(0.05, kBytes);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const std::string& target : ag::cpu_targets()) {
    add("machine/fma_f32/" + target, target, [] { return measure_fma_f32(0.05); });
    add("machine/exp2_f32/" + target, target, [] { return measure_exp2_f32(0.05); });
  }
  add("machine/read/16KiB", "", read_rate<(16 << 10)>);
  add("machine/read/512KiB", "", read_rate<(512 << 10)>);
  add("machine/read/8MiB", "", read_rate<(8 << 20)>);
  add("machine/read/512MiB", "", read_rate<(512 << 20)>);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
