// SPDX-License-Identifier: Apache-2.0
#include "machine.hpp"

#include <sched.h>
#include <sys/utsname.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <thread>

// As src/cpu/kernels.cpp, so that a target means the same here.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "machine.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h: these are what it compiles again and again.
#include <hwy/highway.h>

#include "cpu/exp2-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace ag::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Latency times throughput is 8 on the widest cores known; 12 chains and two operands fit 16 registers.
inline constexpr int kChains = 12;

// Operations done in `rounds` rounds. The result depends on every one, so none can be left out.
double fma_chains(std::int64_t rounds, float* result) {
  const hn::ScalableTag<float> d;
  const auto shrink = hn::Set(d, 0.9999f + 1e-7f * *result);  // not a constant to the compiler
  const auto grow = hn::Set(d, 1e-4f);
  hn::Vec<decltype(d)> sum[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sum[c] = hn::Set(d, static_cast<float>(c));
  for (std::int64_t n = 0; n < rounds; ++n) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = hn::MulAdd(sum[c], shrink, grow);
  }
  for (int c = 1; c < kChains; ++c) sum[0] = hn::Add(sum[0], sum[c]);
  *result = hn::GetLane(hn::SumOfLanes(d, sum[0]));
  return 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

double exp2_sums(const float* x, std::int64_t count, float* result) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  for (std::int64_t j = 0; j + 4 * step <= count; j += 4 * step) {
    sum0 = hn::Add(sum0, cpu::HWY_NAMESPACE::Exp2(d, hn::Load(d, x + j)));
    sum1 = hn::Add(sum1, cpu::HWY_NAMESPACE::Exp2(d, hn::Load(d, x + j + step)));
    sum2 = hn::Add(sum2, cpu::HWY_NAMESPACE::Exp2(d, hn::Load(d, x + j + 2 * step)));
    sum3 = hn::Add(sum3, cpu::HWY_NAMESPACE::Exp2(d, hn::Load(d, x + j + 3 * step)));
  }
  *result = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  return static_cast<double>(count);
}

double read_floats(const float* x, std::int64_t count, float* result) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  auto max0 = hn::Zero(d), max1 = hn::Zero(d), max2 = hn::Zero(d), max3 = hn::Zero(d);
  for (std::int64_t j = 0; j + 4 * step <= count; j += 4 * step) {
    max0 = hn::Max(max0, hn::Load(d, x + j));
    max1 = hn::Max(max1, hn::Load(d, x + j + step));
    max2 = hn::Max(max2, hn::Load(d, x + j + 2 * step));
    max3 = hn::Max(max3, hn::Load(d, x + j + 3 * step));
  }
  *result = hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(max0, max1), hn::Max(max2, max3))));
  return static_cast<double>(count) * sizeof(float);
}

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace ag::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ag::bench {

HWY_EXPORT(fma_chains);
HWY_EXPORT(exp2_sums);
HWY_EXPORT(read_floats);
HWY_EXPORT(target_name);

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// The best rate of many short runs: interruptions make a run slower, nothing makes it faster than the machine.
template <class Work>
double best_rate(double seconds, Work&& work) {
  double best = 0;
  const auto begin = Clock::now();
  do {
    const auto start = Clock::now();
    const double done = work();
    const double rate = done / seconds_since(start);
    if (rate > best) best = rate;
  } while (seconds_since(begin) < seconds);
  return best;
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Floats = std::unique_ptr<float[], Free>;

Floats aligned_floats(std::size_t count, float value) {
  Floats floats(static_cast<float*>(std::aligned_alloc(64, count * sizeof(float))));
  if (!floats) throw std::bad_alloc();
  for (std::size_t i = 0; i < count; ++i) floats[i] = value * static_cast<float>(i % 61);
  return floats;
}

volatile float observed;  // what was computed counts as used

}  // namespace

double measure_fma_f32(double seconds) {
  float result = 0;
  const double best = best_rate(seconds, [&] { return HWY_DYNAMIC_DISPATCH(fma_chains)(100'000, &result); });
  observed = result;
  return best;
}

double measure_exp2_f32(double seconds) {
  constexpr std::int64_t kCount = 2048;  // 8 KiB
  const Floats x = aligned_floats(kCount, -0.37f);
  float result = 0;
  const double best = best_rate(seconds, [&] {
    double done = 0;
    for (int n = 0; n < 200; ++n) {
      done += HWY_DYNAMIC_DISPATCH(exp2_sums)(x.get(), kCount, &result);
      observed = result;
    }
    return done;
  });
  return best;
}

double measure_read(double seconds, std::size_t buffer_bytes) {
  const std::size_t count = buffer_bytes / sizeof(float) / 256 * 256;
  const Floats x = aligned_floats(count, 1.0f);
  const std::size_t repeats = buffer_bytes < (1u << 20) ? (1u << 20) / buffer_bytes : 1;
  float result = 0;
  return best_rate(seconds, [&] {
    double done = 0;
    for (std::size_t n = 0; n < repeats; ++n) {
      done += HWY_DYNAMIC_DISPATCH(read_floats)(x.get(), static_cast<std::int64_t>(count), &result);
      observed = result;
    }
    return done;
  });
}

std::string measured_target() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

std::string processor_name() {
  std::ifstream facts("/proc/cpuinfo");
  for (std::string line; std::getline(facts, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  utsname system{};
  return uname(&system) == 0 ? system.machine : "a processor without a name";  // ARM has none there
}

int usable_threads_here() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace ag::bench
#endif
