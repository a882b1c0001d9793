// SPDX-License-Identifier: Apache-2.0
// What this processor does by each way to multiply: every instruction set that runs here x dtype x D, one thread and
// all of them, in 10^9 scores a second; and, on one thread, the product and the largest score alone, and the logsumexp
// alone, which say where the rest of the time goes. Every answer is checked before it is timed. Prints Markdown to be
// pasted (docs/benchmarks.md), and takes less than a minute wherever it runs: slower paths do fewer rows. usage:
// bench_paths [--seconds S] [--threads N] [--path NAME]
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <attngraph/attngraph.hpp>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/aligned_buffer.hpp"
#include "cpu/kernels.hpp"
#include "cpu/pairs.hpp"
#include "cpu/targets.hpp"
#include "inputs.hpp"
#include "machine.hpp"
#include "support/random.hpp"
#include "verify.hpp"

namespace {

using namespace ag;
using namespace ag::bench;

constexpr std::int64_t kKeys = 16384;
constexpr double kThreshold = 0.01;
constexpr attngraph_dtype kDTypes[] = {ATTNGRAPH_F32, ATTNGRAPH_F16, ATTNGRAPH_BF16};
constexpr std::int64_t kHeadDims[] = {64, 128};

struct Settings {
  double seconds = 45;  // of the clock, beside checks and the making of inputs: some ten seconds
  int threads = 0;
  std::string path;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

// Of the kernels' own words.
DType internal(attngraph_dtype dtype) {
  return dtype == ATTNGRAPH_F32 ? DType::kF32 : dtype == ATTNGRAPH_F16 ? DType::kF16 : DType::kBF16;
}

bool serves(const std::string& path, attngraph_dtype dtype) {
  return path != name_of(Product::kAvx512Bf16) || dtype == ATTNGRAPH_BF16;
}

class Forced {
 public:
  explicit Forced(const std::string& path) { force_cpu_target(path); }
  ~Forced() { force_cpu_target(""); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;
};

// The passes of one path on data that stay in L1 and L2, as they do in a task: strips of packed keys, over which blocks
// of rows pass.
class Parts {
 public:
  Parts(attngraph_dtype dtype, std::int64_t d)
      : kernel_(cpu::product_kernels<float>(cpu::usable_product(), internal(dtype))), d_(d), depth_(kernel_.depth(d)) {
    // Exact in every dtype; scores have a standard deviation of about 2 in base 2.
    test::Random random(7);
    const auto values = [&](std::int64_t rows) {
      std::vector<float> x(static_cast<std::size_t>(rows * d));
      for (float& v : x) v = static_cast<float>(random.below(17)) / 8 - 1;
      return x;
    };
    factor_ = static_cast<float>(4 / std::sqrt(static_cast<double>(d)));
    q_ = values(kBlocks * rows());
    k_ = values(kStrips * kStrip);
    packed_q_.reserve(kBlocks * rows() * depth_);
    packed_k_.reserve(kStrips * kStrip * depth_);
    scores_.reserve(rows() * kStrip);
    std::fill_n(packed_q_.data(), kBlocks * rows() * depth_, 0.0f);
    std::vector<float> row(static_cast<std::size_t>(d));
    for (std::int64_t i = 0; i < kBlocks * rows(); ++i) {
      std::copy_n(q_.data() + i * d, d, row.data());
      if (!kernel_.scales_scores) {
        for (float& v : row) v *= factor_;
      }
      kernel_.pack_query(row.data(), d, i % rows(), packed_q_.data() + i / rows() * rows() * depth_);
    }
    for (std::int64_t j = 0; j < kStrips * kStrip; j += kernel_.panel_keys)
      kernel_.pack_panel(k_.data() + j * d, d, packed_k_.data() + j * depth_);
    states_.resize(static_cast<std::size_t>(kBlocks * rows()));
  }

  // Scores a second of about so many seconds, the best of some looks.
  double rate(bool with_sum, double seconds) {
    pass(with_sum);
    check(with_sum);
    double best = 0;
    for (const double end = now() + seconds; now() < end;) {
      const double begin = now();
      pass(with_sum);
      best = std::max(best, static_cast<double>(kStrips * kStrip * kBlocks * rows()) / (now() - begin));
    }
    return best;
  }

 private:
  static constexpr std::int64_t kStrip = cpu::kStripKeys<float>, kStrips = 8, kBlocks = 6;

  std::int64_t rows() const { return kernel_.rows_per_block; }

  void pass(bool with_sum) {
    for (cpu::RowState<float>& state : states_) {
      state = {};
      state.cut = std::numeric_limits<float>::max();  // no candidates
    }
    if (with_sum && kernel_.score_under_sweep != nullptr && kernel_.sweep_rows != nullptr) {
      whole_strip(0, true);  // as a task does: its rows' first ones give them references
      for (std::int64_t s = 1; s < kStrips; ++s) strip_by_pieces(s);
    } else {
      for (std::int64_t s = 0; s < kStrips; ++s) whole_strip(s, with_sum);
    }
  }

  void strip_by_pieces(std::int64_t s) {
    running_.rows = rows();
    running_.factor = kernel_.scales_scores ? factor_ : 1.0f;
    kernel_.open_product();
    for (std::int64_t b = 0; b < kBlocks; ++b) {
      for (std::int64_t r = 0; r < rows(); ++r) running_.states[r] = &states_[static_cast<std::size_t>(b * rows() + r)];
      kernel_.open_sweep(running_);
      kernel_.score_under_sweep(packed_q_.data() + b * rows() * depth_, packed_k_.data() + s * kStrip * depth_, d_,
                                kStrip / cpu::kPieceKeys, s * kStrip, running_, kernel_.sweep_rows);
      if (kernel_.close_sweep(running_, {}) != 0) throw std::runtime_error("scores rise too far for pieces");
    }
    kernel_.close_product();
  }

  void whole_strip(std::int64_t s, bool with_sum) {
    const cpu::SweepRequest request{.sum = with_sum, .own_cut = false};
    std::vector<cpu::StripRow<float>> strips(static_cast<std::size_t>(rows()));
    for (std::int64_t b = 0; b < kBlocks; ++b) {
      kernel_.score_strip(packed_q_.data() + b * rows() * depth_, packed_k_.data() + s * kStrip * depth_, d_,
                          kStrip / kernel_.panel_keys, factor_, scores_.data());
      for (std::int64_t r = 0; r < rows(); ++r) {
        strips[static_cast<std::size_t>(r)] = {scores_.data() + r * kStrip, kStrip, s * kStrip, b * rows() + r,
                                               &states_[static_cast<std::size_t>(b * rows() + r)]};
      }
      kernel_.sweep(strips.data(), rows(), request);
    }
  }

  void check(bool with_sum) const {
    for (const std::int64_t i : {std::int64_t{0}, rows() + 1, kBlocks * rows() - 1}) {
      double maximum = -HUGE_VAL, sum = 0;
      std::vector<double> x;
      for (std::int64_t j = 0; j < kStrips * kStrip; ++j) {
        double product = 0;
        for (std::int64_t c = 0; c < d_; ++c)
          product += static_cast<double>(q_[static_cast<std::size_t>(i * d_ + c)]) *
                     static_cast<double>(k_[static_cast<std::size_t>(j * d_ + c)]);
        x.push_back(product * static_cast<double>(factor_));
        maximum = std::max(maximum, x.back());
      }
      const cpu::RowState<float>& state = states_[static_cast<std::size_t>(i)];
      if (std::abs(static_cast<double>(state.maximum) - maximum) > 1e-4) throw std::runtime_error("a maximum is wrong");
      if (!with_sum) continue;
      for (const double v : x) sum += std::exp2(v - maximum);
      const double found = std::log2(state.sum) + static_cast<double>(state.reference);
      if (std::abs(found - (std::log2(sum) + maximum)) > 1e-4) throw std::runtime_error("a logsumexp is wrong");
    }
  }

  const cpu::Kernels<float> kernel_;
  std::int64_t d_, depth_;
  float factor_ = 1;
  std::vector<float> q_, k_;
  cpu::AlignedBuffer<float> packed_q_, packed_k_, scores_;
  cpu::RunningSweep<float> running_{};
  std::vector<cpu::RowState<float>> states_;
};

attngraph::options options_with(int threads) {
  return attngraph::options().backend("cpu").threshold(kThreshold).causal(false).threads(threads);
}

// Against the reference, on a small problem.
void check_path(attngraph_dtype dtype, std::int64_t d, int threads) {
  attngraph::context context("cpu");
  const QkInput input(700, d, dtype);
  const attngraph::options how = options_with(threads);
  check_extract(context, input.q(), input.k(), how, {.threshold = kThreshold},
                context.extract(input.q(), input.k(), how));
}

// Queries and keys to edges in memory: all keys, as many rows as the time allows.
class Whole {
 public:
  Whole(const QkInput& input, int threads) : input_(input), threads_(threads) {}

  void calibrate(double seconds) {
    rows_ = std::min<std::int64_t>(kKeys, 48 * threads_);
    run();
    const double rate = run();
    const double wanted = rate * seconds / static_cast<double>(kKeys);
    rows_ = std::clamp(static_cast<std::int64_t>(wanted), rows_, kKeys);
  }
  // Scores a second.
  double run() {
    const double begin = now();
    context_.extract(input_.q(), input_.k(), options_with(threads_).query_range(0, rows_));
    return static_cast<double>(rows_) * static_cast<double>(kKeys) / (now() - begin);
  }

 private:
  attngraph::context context_{"cpu"};
  const QkInput& input_;
  int threads_;
  std::int64_t rows_ = 0;
};

struct Line {
  std::string path;
  double one = 0, all = 0, products = 0, logsumexp = 0;
};

// All paths of one dtype and D, in turn.
std::vector<Line> measure(const std::vector<std::string>& paths, attngraph_dtype dtype, std::int64_t d, int threads,
                          double seconds_of_line) {
  constexpr int kRounds = 3;
  const QkInput input(kKeys, d, dtype);
  std::vector<Line> lines;
  for (const std::string& path : paths) {
    if (!serves(path, dtype)) continue;
    const Forced forced(path);
    check_path(dtype, d, 1);
    check_path(dtype, d, threads);
    lines.push_back({path});
    Parts parts(dtype, d);
    lines.back().products = parts.rate(false, 0.1 * seconds_of_line);
    lines.back().logsumexp = parts.rate(true, 0.1 * seconds_of_line);
  }
  for (const int used : {1, threads}) {
    std::vector<Whole> runs;
    std::vector<std::vector<double>> rates(lines.size());
    for (const Line& line : lines) {
      const Forced forced(line.path);
      runs.emplace_back(input, used).calibrate(0.3 * seconds_of_line / kRounds);
    }
    for (int round = 0; round < kRounds; ++round) {
      for (std::size_t n = 0; n < lines.size(); ++n) {
        const Forced forced(lines[n].path);
        rates[n].push_back(runs[n].run());
      }
    }
    for (std::size_t n = 0; n < lines.size(); ++n) (used == 1 ? lines[n].one : lines[n].all) = median(rates[n]);
    if (threads == 1) break;
  }
  return lines;
}

std::string billions(double rate) { return rate > 0 ? fmt::format("{:.3g}", 1e-9 * rate) : ""; }

void print_device() {
  for (const attngraph::backend& backend : attngraph::backends()) {
    if (std::string(backend.name) == "cpu") fmt::print("{}\n", backend.device);
  }
}

std::vector<std::string> chosen_paths(const std::string& wanted) {
  const std::vector<std::string> all = cpu_targets();
  if (wanted.empty()) return all;
  if (std::find(all.begin(), all.end(), wanted) == all.end())
    throw std::runtime_error(fmt::format("--path {}: this machine has {}", wanted, fmt::join(all, ", ")));
  return {wanted};
}

void run(const Settings& settings) {
  const std::vector<std::string> paths = chosen_paths(settings.path);
  const int threads = settings.threads > 0 ? settings.threads : usable_threads_here();
  std::size_t count = 0;
  for (const attngraph_dtype dtype : kDTypes)
    count += std::size(kHeadDims) * static_cast<std::size_t>(std::count_if(
                                        paths.begin(), paths.end(), [&](const auto& p) { return serves(p, dtype); }));
  const double begin = now();
  fmt::print("{}, {} threads; attngraph {}\n", processor_name(), threads, attngraph::version());
  print_device();
  fmt::print("N = {}, full, t = {}; 10^9 scores a second; products and logsumexp: kernels alone, one thread\n\n", kKeys,
             kThreshold);
  fmt::print("| dtype | D | path | 1 thread | {} threads | products and maximum | logsumexp |\n", threads);
  fmt::print("|---|---|---|---|---|---|---|\n");
  for (const attngraph_dtype dtype : kDTypes) {
    for (const std::int64_t d : kHeadDims) {
      for (const Line& line : measure(paths, dtype, d, threads, settings.seconds / static_cast<double>(count))) {
        fmt::print("| {} | {} | {} | {} | {} | {} | {} |\n", dtype_name(dtype), d, line.path, billions(line.one),
                   billions(line.all), billions(line.products), billions(line.logsumexp));
      }
      std::fflush(stdout);
    }
  }
  fmt::print("\nEvery path gave the edges of the reference first. {:.0f} s.\n", now() - begin);
}

constexpr const char* kUsage = "usage: bench_paths [--seconds S] [--threads N] [--path NAME]\n";

}  // namespace

int main(int argc, char** argv) try {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (i + 1 < argc && word == "--seconds") {
      settings.seconds = std::atof(argv[++i]);
    } else if (i + 1 < argc && word == "--threads") {
      settings.threads = std::atoi(argv[++i]);
    } else if (i + 1 < argc && word == "--path") {
      settings.path = argv[++i];
    } else {
      fmt::print(stderr, kUsage);
      return 2;
    }
  }
  if (!(settings.seconds > 0) || settings.threads < 0) {
    fmt::print(stderr, "bench_paths: --seconds is above 0, --threads at least 1\n{}", kUsage);
    return 2;
  }
  run(settings);
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "bench_paths: {}\n", e.what());
  return 1;
}
