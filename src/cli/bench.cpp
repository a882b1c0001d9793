// SPDX-License-Identifier: Apache-2.0
// attngraph bench: scores per second on this machine, on synthetic queries and keys, after a check of the answer.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "command.hpp"
#include "flags.hpp"
#include "graph_input.hpp"
#include "progress.hpp"
#include "source.hpp"
#include "table.hpp"
#include "terminal.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct BenchFlags {
  std::string n = "1024,4096";
  std::int64_t d = 64, heads = 1, repeats = 5;
  std::string dtype = attngraph_dtype_name(ATTNGRAPH_F32);
  double threshold = 0.01;
  bool causal = false, json = false;
  RunFlags run;
};

constexpr std::uint64_t kSeed = 42;
constexpr std::int64_t kCheckedN = 256;

struct Row {
  std::int64_t n = 0, edges = 0;
  double median_ms = 0, least_ms = 0, most_ms = 0, scores_per_s = 0;
  std::string backend, target;
  std::int32_t threads = 0;
};

// To 16 bits, round to nearest even; values here are far from the ends of the range.
std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
std::uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude < 0x38800000) return static_cast<std::uint16_t>(sign);  // subnormal halves are taken as 0
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}

// Numbers of one tensor, stored as the dtype asked for.
class Stored {
 public:
  Stored(const std::vector<float>& values, const std::string& dtype, std::int64_t heads, std::int64_t n, std::int64_t d)
      : dtype_(*std::find_if(std::begin(kFloats), std::end(kFloats),
                             [&](attngraph_dtype known) { return dtype == attngraph_dtype_name(known); })),
        bytes_(values.size() * attngraph_dtype_size(dtype_)),
        shape_{heads, n, d} {
    const auto put = [&](std::size_t i, auto value) { std::memcpy(&bytes_[i * sizeof value], &value, sizeof value); };
    for (std::size_t i = 0; i < values.size(); ++i) {
      switch (dtype_) {
        case ATTNGRAPH_F64: put(i, double{values[i]}); break;
        case ATTNGRAPH_F32: put(i, values[i]); break;
        case ATTNGRAPH_F16: put(i, to_f16(values[i])); break;
        default: put(i, to_bf16(values[i]));
      }
    }
  }
  attngraph::tensor view() const { return {bytes_.data(), dtype_, shape_}; }

 private:
  attngraph_dtype dtype_;
  std::vector<std::byte> bytes_;
  std::array<std::int64_t, 3> shape_;
};

struct Inputs {
  Stored q, k;
};

// Gaussian keys; every query leans towards one key at or before its place, so that heads are not flat.
Inputs make_inputs(const BenchFlags& flags, std::int64_t n) {
  std::mt19937_64 random(kSeed);
  std::normal_distribution<float> normal(0.0F, 1.5F);
  const auto size = static_cast<std::size_t>(flags.heads * n * flags.d);
  std::vector<float> q(size), k(size);
  for (std::size_t i = 0; i < size; ++i) {
    if (i % 4096 == 0) stop_if_interrupted();
    k[i] = normal(random);
  }
  const auto d = static_cast<std::size_t>(flags.d), rows = static_cast<std::size_t>(n);
  for (std::size_t row = 0; row < size / d; ++row) {
    if (row % 64 == 0) stop_if_interrupted();
    const std::size_t head = row / rows, i = row % rows, chosen = head * rows + random() % (i + 1);
    for (std::size_t c = 0; c < d; ++c) q[row * d + c] = normal(random) + 0.4F * k[chosen * d + c];
  }
  return {Stored(q, flags.dtype, flags.heads, n, flags.d), Stored(k, flags.dtype, flags.heads, n, flags.d)};
}

options bench_options(const BenchFlags& flags) {
  options o;
  flags.run.apply(o);
  return o.threshold(flags.threshold).causal(flags.causal).cancelled(interrupted);
}

// The backend that will be timed against the definition, on a small case.
void check_answer(context& c, const BenchFlags& flags) {
  const Inputs in = make_inputs(flags, kCheckedN);
  const result timed = c.extract(in.q.view(), in.k.view(), bench_options(flags));
  const result truth = context("cpu").extract(in.q.view(), in.k.view(), bench_options(flags).backend("reference"));
  const difference d = timed.diff(truth, std::expm1(timed.report().eps) + 1e-12);
  constexpr double kWeightTolerance = 1e-4;
  if (d.only_a + d.only_b > 0 || d.max_weight_difference > kWeightTolerance)
    throw error(ATTNGRAPH_ERROR_INTERNAL,
                fmt::format("{} disagrees with reference at N = {}: {} and {} edges of its own, weights within {:.1e}",
                            timed.report().backend, kCheckedN, d.only_a, d.only_b, d.max_weight_difference));
}

Row measure(context& c, const BenchFlags& flags, std::int64_t n, Progress& progress) {
  const Inputs in = make_inputs(flags, n);
  std::vector<double> ms;
  Row row;
  row.n = n;
  for (std::int64_t repeat = -1; repeat < flags.repeats; ++repeat) {  // the first warms caches and clocks
    const auto start = std::chrono::steady_clock::now();
    const result graph = c.extract(in.q.view(), in.k.view(), bench_options(flags));
    const double elapsed = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (repeat >= 0) ms.push_back(elapsed);
    row.edges = graph.edge_count();
    const report how = graph.report();
    row.backend = how.backend;
    row.target = how.target;
    row.threads = how.threads;
    progress.update(static_cast<double>(repeat + 2) / static_cast<double>(flags.repeats + 1));
  }
  std::sort(ms.begin(), ms.end());
  const std::size_t half = ms.size() / 2;
  row.median_ms = ms.size() % 2 == 1 ? ms[half] : (ms[half - 1] + ms[half]) / 2;
  row.least_ms = ms.front();
  row.most_ms = ms.back();
  const auto size = static_cast<double>(n);
  const double scores = static_cast<double>(flags.heads) * (flags.causal ? size * (size + 1) / 2 : size * size);
  row.scores_per_s = scores / (row.median_ms / 1000);
  return row;
}

Json bench_json(const BenchFlags& flags, const std::vector<Row>& rows) {
  Json list = Json::array();
  for (const Row& r : rows)
    list.push_back({{"backend", r.backend},
                    {"target", r.target},
                    {"threads", r.threads},
                    {"n", r.n},
                    {"d", flags.d},
                    {"heads", flags.heads},
                    {"dtype", flags.dtype},
                    {"threshold", flags.threshold},
                    {"causal", flags.causal},
                    {"edges", r.edges},
                    {"repeats", flags.repeats},
                    {"median_ms", r.median_ms},
                    {"min_ms", r.least_ms},
                    {"max_ms", r.most_ms},
                    {"scores_per_s", r.scores_per_s}});
  return list;
}

void print_bench(const BenchFlags& flags, const std::vector<Row>& rows) {
  fmt::print("{} on {}, {} {}; D {}, {} {}, {}, threshold {}{}; median of {}\n", rows[0].backend,
             sanitised(rows[0].target), rows[0].threads, rows[0].threads == 1 ? "thread" : "threads", flags.d,
             flags.heads, flags.heads == 1 ? "head" : "heads", flags.dtype, shortest(flags.threshold),
             flags.causal ? ", causal" : "", flags.repeats);
  fmt::print("checked against reference at N = {}; scores/s counts allowed pairs only\n\n", kCheckedN);
  Table table({"N", "ms", "min", "max", "scores/s", "edges"});
  for (const Row& r : rows)
    table.row({grouped(r.n), fmt::format("{:.2f}", r.median_ms), fmt::format("{:.2f}", r.least_ms),
               fmt::format("{:.2f}", r.most_ms), fmt::format("{:.3g} G", r.scores_per_s / 1e9), grouped(r.edges)});
  fmt::print("{}", table.text());
}

int bench(const BenchFlags& flags) {
  const std::vector<std::int64_t> sizes = parse_list("--n", flags.n);
  if (sizes.front() < 1 || flags.d < 1 || flags.heads < 1 || flags.repeats < 1)
    throw UsageError("--n, --d, --heads and --repeats: give at least 1");
  watch_interrupts();
  context c(flags.run.device);
  check_answer(c, flags);
  std::vector<Row> rows;
  {
    Progress progress(!flags.run.quiet, sizes.size());
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      progress.begin(i, fmt::format("N = {}", sizes[i]));
      rows.push_back(measure(c, flags, sizes[i], progress));
    }
  }
  if (flags.json)
    print_json(bench_json(flags, rows));
  else
    print_bench(flags, rows);
  return kSuccess;
}

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("bench", "Scores per second on this machine, with synthetic queries and keys");
  const auto flags = std::make_shared<BenchFlags>();
  command->add_option("--n", flags->n, "Queries and keys (default: " + flags->n + ")")->type_name("LIST");
  command->add_option("--d", flags->d, "Head size (default: 64)")->type_name("N");
  command->add_option("--heads", flags->heads, "Heads (default: 1)")->type_name("N");
  command->add_option("--dtype", flags->dtype, join(float_names()) + " (default: " + flags->dtype + ")")
      ->check(CLI::IsMember(float_names()));
  command->add_option("-t,--threshold", flags->threshold, "Least weight of an edge (default: 0.01)")->type_name("T");
  command->add_flag("--causal", flags->causal, "A query sees keys up to its own position");
  command->add_option("--repeats", flags->repeats, "Timed runs (default: 5)")->type_name("N");
  command->add_flag("--json", flags->json, "Print JSON");
  flags->run.add(*command);
  command->callback([flags, &run] { run = [flags] { return bench(*flags); }; });
}

}  // namespace attngraph::cli
