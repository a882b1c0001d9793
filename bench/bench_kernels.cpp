// SPDX-License-Identifier: Apache-2.0
// The passes of the cpu backend alone, for each instruction set, on data that stay in L1 or L2 as they do in a task:
//     kernels/score_strip/TARGET/D:64    the product, a register block of rows by one strip of keys
//     kernels/sweep/TARGET[/entropy]     maximum, 2^x, sum, compare, compact over the scores of a row
//     kernels/add_masses/TARGET          2^x, added by key and by distance
//     kernels/unpack/TARGET/f16          a row of the input to float
//     kernels/pack_panel/TARGET/D:64     keys to panels
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/aligned_buffer.hpp"
#include "cpu/kernels.hpp"
#include "cpu/pairs.hpp"
#include "cpu/targets.hpp"
#include "machine.hpp"
#include "support/random.hpp"
#include "support/rounding.hpp"
#include "timing.hpp"

namespace {

using namespace ag;
using namespace ag::bench;

std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

class Floats {
 public:
  Floats(std::int64_t count, const std::function<double(test::Random&)>& value, std::uint64_t seed) {
    buffer_.reserve(count);
    test::Random random(seed);
    for (std::int64_t i = 0; i < count; ++i) buffer_.data()[i] = static_cast<float>(value(random));
  }
  explicit Floats(std::int64_t count)
      : Floats(
            count, [](test::Random&) { return 0.0; }, 1) {}
  float* data() { return buffer_.data(); }
  float operator[](std::int64_t i) const { return buffer_.data()[i]; }

 private:
  cpu::AlignedBuffer<float> buffer_;
};

double normal(test::Random& random) { return random.normal(); }

void require(bool right, const char* what) {
  if (!right) throw std::runtime_error(fmt::format("{} is wrong", what));
}

// Runs a row with its instruction set; an answer that fails its check is the row's error.
void add(const std::string& name, const std::string& target, std::function<void(benchmark::State&)> row) {
  benchmark::RegisterBenchmark(name.c_str(), [target, row](benchmark::State& state) {
    force_cpu_target(target);
    try {
      row(state);
    } catch (const std::exception& e) {
      state.SkipWithError(e.what());
    }
    force_cpu_target("");
  })->UseRealTime();
}

void score_strip(benchmark::State& state, std::int64_t d) {
  const auto& kernel = cpu::kernels<float>();
  const std::int64_t rows = kernel.rows_per_block, panel = kernel.panel_keys;
  const std::int64_t panels = cpu::kStripKeys<float> / panel;
  Floats q(rows * d, normal, 1), k(cpu::kStripKeys<float> * d, normal, 2), scores(rows * cpu::kStripKeys<float>);
  kernel.score_strip(q.data(), k.data(), d, panels, 1.0f, scores.data());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < cpu::kStripKeys<float>; ++j) {
      double exact = 0;
      for (std::int64_t c = 0; c < d; ++c)
        exact += double{q[c * rows + r]} * double{k[(j / panel * d + c) * panel + j % panel]};
      require(std::abs(exact - double{scores[r * cpu::kStripKeys<float> + j]}) < 1e-3, "score_strip");
    }
  }
  const double flops = 2.0 * static_cast<double>(rows * d * cpu::kStripKeys<float>);
  FmaPeak peak;
  peak.look();
  const double seconds = time_loop(state, [&] {
    kernel.score_strip(q.data(), k.data(), d, panels, 1.0f, scores.data());
    benchmark::DoNotOptimize(scores.data());
    benchmark::ClobberMemory();
  });
  peak.look();
  state.counters["flop/s"] = flops / seconds;
  state.counters["fma_peak_%"] = 100 * flops / peak.flops() / seconds;
  state.counters["scores/s"] = static_cast<double>(rows * cpu::kStripKeys<float>) / seconds;
}

// The product of bf16 values by pairs; shares are of the rate of float multiply-adds, so they may pass 100.
void pair_strip(benchmark::State& state, std::int64_t d) {
  const cpu::Kernels<float> kernel = cpu::product_kernels<float>(cpu::usable_product(), DType::kBF16);
  const std::int64_t rows = kernel.rows_per_block, panel = kernel.panel_keys, keys = cpu::kStripKeys<float>;
  const std::int64_t depth = kernel.depth(d);
  const auto small = [](test::Random& random) { return static_cast<double>(random.below(17)) - 8; };  // exact in bf16
  Floats q(rows * d, small, 1), k(keys * d, small, 2), scores(rows * keys), packed_q(rows * depth),
      packed_k(keys * depth);
  for (std::int64_t j = 0; j < keys; j += panel) kernel.pack_panel(k.data() + j * d, d, packed_k.data() + j * depth);
  for (std::int64_t r = 0; r < rows; ++r) kernel.pack_query(q.data() + r * d, d, r, packed_q.data());
  const auto strip = [&] {
    kernel.score_strip(packed_q.data(), packed_k.data(), d, keys / panel, 0.5f, scores.data());
  };
  strip();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < keys; ++j) {
      double exact = 0;
      for (std::int64_t c = 0; c < d; ++c) exact += double{q[r * d + c]} * double{k[j * d + c]};
      require(0.5 * exact == double{scores[r * keys + j]}, "the product of pairs");
    }
  }
  FmaPeak peak;
  peak.look();
  const double seconds = time_loop(state, [&] {
    strip();
    benchmark::DoNotOptimize(scores.data());
    benchmark::ClobberMemory();
  });
  peak.look();
  const double flops = 2.0 * static_cast<double>(rows * d * keys);
  state.counters["flop/s"] = flops / seconds;
  state.counters["fma_peak_%"] = 100 * flops / peak.flops() / seconds;
  state.counters["scores/s"] = static_cast<double>(rows * keys) / seconds;
}

// A row of 8192 scores as base-2 logarithms: standard deviation 1.5 nats, one key in 500 far above, t = 0.01.
void sweep(benchmark::State& state, bool entropy) {
  constexpr std::int64_t kKeys = 8192, kStrip = cpu::kStripKeys<float>;
  const auto& kernel = cpu::kernels<float>();
  Floats x(
      kKeys, [](test::Random& random) { return random.normal() * 2.2 + (random.below(500) == 0 ? 10 : 0); }, 3);
  const cpu::SweepRequest request{.entropy = entropy, .log2_cut = std::log2(0.01)};
  cpu::RowState<float> row;
  row.candidates.grow(kKeys + kStrip);
  const auto sweep_row = [&] {
    cpu::Candidates<float> candidates = std::move(row.candidates);
    candidates.clear();
    row = cpu::RowState<float>();
    row.candidates = std::move(candidates);
    for (std::int64_t j = 0; j < kKeys; j += kStrip) {
      const cpu::StripRow<float> strip{x.data() + j, kStrip, j, 0, &row};
      kernel.sweep(&strip, 1, request);
    }
  };
  sweep_row();
  double exact = 0;
  for (std::int64_t j = 0; j < kKeys; ++j) exact += std::exp2(double{x[j]});
  const double logarithm = std::log2(row.sum) + double{row.reference};
  require(std::abs(logarithm - std::log2(exact)) < 1e-5, "sweep");

  FmaPeak peak;
  const double exp2_rate = measure_exp2_f32(0.02);
  const double seconds = time_loop(state, [&] {
    sweep_row();
    benchmark::DoNotOptimize(row.sum);
  });
  state.counters["scores/s"] = static_cast<double>(kKeys) / seconds;
  state.counters["exp2_limit_%"] = 100 * static_cast<double>(kKeys) / exp2_rate / seconds;
  state.counters["candidates"] = static_cast<double>(row.candidates.size());
}

void add_masses(benchmark::State& state) {
  constexpr std::int64_t kWidth = cpu::kStripKeys<float>;
  const auto& kernel = cpu::kernels<float>();
  Floats x(
      kWidth, [](test::Random& random) { return -20 * random.uniform(); }, 4);
  std::vector<double> received(kWidth), distances(kWidth);
  const auto add = [&] {
    kernel.add_masses(x.data(), kWidth, 0.0f, 0.0f, received.data(), distances.data() + kWidth - 1);
  };
  add();
  for (std::int64_t j = 0; j < kWidth; ++j) {
    const double weight = received[static_cast<std::size_t>(j)];
    require(std::abs(weight / std::exp2(double{x[j]}) - 1) < 1e-6, "add_masses");
    require(distances[static_cast<std::size_t>(kWidth - 1 - j)] == weight, "add_masses");
  }
  const double exp2_rate = measure_exp2_f32(0.02);
  const double seconds = time_loop(state, [&] {
    add();
    benchmark::DoNotOptimize(received.data());
    benchmark::ClobberMemory();
  });
  state.counters["scores/s"] = static_cast<double>(kWidth) / seconds;
  state.counters["exp2_limit_%"] = 100 * static_cast<double>(kWidth) / exp2_rate / seconds;
}

void unpack(benchmark::State& state, DType dtype) {
  constexpr std::int64_t kValues = 128;
  const auto& kernel = cpu::kernels<float>();
  test::Random random(5);
  std::vector<std::byte> row(idx(kValues) * size_of(dtype));
  for (std::int64_t i = 0; i < kValues; ++i)
    test::store_rounded(dtype, random.normal(), row.data() + idx(i) * size_of(dtype));
  Floats out(kValues);
  kernel.unpack_row(row.data(), dtype, 1, kValues, out.data());
  for (std::int64_t i = 0; i < kValues; ++i)
    require(double{out[i]} == load_double(dtype, row.data() + idx(i) * size_of(dtype)), "unpack_row");
  const double seconds = time_loop(state, [&] {
    kernel.unpack_row(row.data(), dtype, 1, kValues, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  });
  state.counters["values/s"] = static_cast<double>(kValues) / seconds;
}

void pack_panel(benchmark::State& state, std::int64_t d) {
  const auto& kernel = cpu::kernels<float>();
  const std::int64_t keys = kernel.panel_keys;
  Floats rows(keys * d, normal, 6), packed(keys * d);
  kernel.pack_panel(rows.data(), d, packed.data());
  for (std::int64_t j = 0; j < keys; ++j) {
    for (std::int64_t c = 0; c < d; ++c) require(packed[c * keys + j] == rows[j * d + c], "pack_panel");
  }
  const double seconds = time_loop(state, [&] {
    kernel.pack_panel(rows.data(), d, packed.data());
    benchmark::DoNotOptimize(packed.data());
    benchmark::ClobberMemory();
  });
  state.counters["values/s"] = static_cast<double>(keys * d) / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const std::string& target : cpu_targets()) {
    if (target == "AMX" || target == "AVX512_BF16") {  // another product, all else is AVX512's
      for (const std::int64_t d : {64, 128})
        add(fmt::format("kernels/score_strip/{}/bf16/D:{}", target, d), target,
            [d](auto& state) { pair_strip(state, d); });
      continue;
    }
    for (const std::int64_t d : {64, 128}) {
      add(fmt::format("kernels/score_strip/{}/D:{}", target, d), target, [d](auto& state) { score_strip(state, d); });
    }
    add("kernels/sweep/" + target, target, [](auto& state) { sweep(state, false); });
    add("kernels/sweep/" + target + "/entropy", target, [](auto& state) { sweep(state, true); });
    add("kernels/add_masses/" + target, target, add_masses);
    for (const auto& [name, dtype] : {std::pair("f32", DType::kF32), {"f16", DType::kF16}, {"bf16", DType::kBF16}}) {
      add(fmt::format("kernels/unpack/{}/{}", target, name), target,
          [type = dtype](auto& state) { unpack(state, type); });
    }
    for (const std::int64_t d : {64, 128}) {
      add(fmt::format("kernels/pack_panel/{}/D:{}", target, d), target, [d](auto& state) { pack_panel(state, d); });
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
