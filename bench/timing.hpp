// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>

namespace ag::bench {

// The loop of a row; returns the mean seconds of one turn. Counters made with Google Benchmark's own rate flags print
// as "/s", which a share is not.
template <class Work>
double time_loop(benchmark::State& state, Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  for (auto _ : state) work();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return elapsed.count() / static_cast<double>(state.iterations());
}

}  // namespace ag::bench
