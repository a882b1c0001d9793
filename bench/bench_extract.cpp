// SPDX-License-Identifier: Apache-2.0
// End to end through the public door: queries and keys in, a graph in memory out. One axis varies at a time around
// f32, D = 64, causal, t = 0.01, one thread. Rows are named
//     extract/BACKEND/DTYPE/D:64/N:8192/causal/t:0.01/threads:1[/top_k:32][/mass:0.9][/stats:entropy]
// and are checked against `reference` before they are timed. --large adds N = 32k to 128k.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <attngraph/attngraph.hpp>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <tuple>

#include "inputs.hpp"
#include "machine.hpp"
#include "memory.hpp"
#include "timing.hpp"
#include "verify.hpp"

namespace {

using namespace ag::bench;

std::string words(const Rule& rule) {
  std::string text = rule.threshold > 0 ? fmt::format("/t:{}", rule.threshold) : "";
  if (rule.top_k > 0) text += fmt::format("/top_k:{}", rule.top_k);
  if (rule.mass > 0) text += fmt::format("/mass:{}", rule.mass);
  return text;
}

struct Row {
  std::string backend = "cpu";
  attngraph_dtype dtype = ATTNGRAPH_F32;
  std::int64_t head_dim = 64, n = 8192;
  bool causal = true;
  Rule rule{.threshold = 0.01};
  std::int32_t threads = 1;
  std::uint32_t stats = 0;

  std::string selection() const {
    std::string text = words(rule);
    if (stats & ATTNGRAPH_STATS_ENTROPY) text += "/stats:entropy";
    if (stats & ATTNGRAPH_STATS_COLUMNS) text += "/stats:columns";
    return text;
  }
  std::string name() const {
    return fmt::format("extract/{}/{}/D:{}/N:{}/{}{}/threads:{}", backend, dtype_name(dtype), head_dim, n,
                       causal ? "causal" : "full", selection(), threads);
  }
  attngraph::options options() const {
    return attngraph::options()
        .backend(backend)
        .threshold(rule.threshold)
        .top_k(rule.top_k)
        .mass(rule.mass)
        .causal(causal)
        .threads(threads)
        .stats(stats);
  }
};

double scores_of(std::int64_t queries, bool causal) {
  const auto n = static_cast<double>(queries);
  return causal ? n * (n + 1) / 2 : n * n;
}

const QkInput& input_of(const Row& row) {
  static std::map<std::tuple<std::int64_t, std::int64_t, int>, QkInput> made;
  const auto key = std::make_tuple(row.n, row.head_dim, static_cast<int>(row.dtype));
  return made.try_emplace(key, row.n, row.head_dim, row.dtype).first->second;
}

// Google Benchmark enters a row several times; the first time is for the check.
bool first_visit(const std::string& name) {
  static std::set<std::string> visited;
  return visited.insert(name).second;
}

FmaPeak& fma_peak() {
  static FmaPeak peak;
  return peak;
}

// One problem: checked when its row is first entered, then timed. `scores` and `head_dim` say how much work it is.
void measure(benchmark::State& state, const std::string& name, const attngraph::tensor& q, const attngraph::tensor& k,
             const attngraph::options& how, const Rule& rule, std::int32_t threads, double scores) {
  attngraph::context context("cpu");
  if (first_visit(name)) {
    try {
      check_extract(context, q, k, how, rule, context.extract(q, k, how));
    } catch (const std::exception& e) {
      state.SkipWithError(e.what());
      return;
    }
  }
  fma_peak().look();
  const PeakMemory memory;
  std::int64_t edges = 0;
  const double seconds = time_loop(state, [&] { edges = context.extract(q, k, how).edge_count(); });
  const std::int64_t memory_bytes = memory.bytes();
  fma_peak().look();

  const double flops = 2.0 * static_cast<double>(q.shape().back()) * scores;
  state.counters["scores/s"] = scores / seconds;
  state.counters["fma_peak_%"] = 100 * flops / seconds / (fma_peak().flops() * threads);
  state.counters["edges"] = static_cast<double>(edges);
  state.counters["density"] = static_cast<double>(edges) / scores;
  state.counters["memory_MiB"] = static_cast<double>(memory_bytes) / 0x1p20;
}

void extract(benchmark::State& state, const Row& row) {
  const QkInput& input = input_of(row);
  measure(state, row.name(), input.q(), input.k(), row.options(), row.rule, row.threads, scores_of(row.n, row.causal));
}

// All heads of one layer of a real model: scores that nobody made up.
void extract_genesis(benchmark::State& state, const std::string& name, const std::string& path, std::int64_t layer,
                     const Rule& rule) {
  attngraph::file file(path);
  const attngraph::tensor q = file.read(fmt::format("q.{}", layer)), k = file.read(fmt::format("k.{}", layer));
  const auto how = attngraph::options()
                       .backend("cpu")
                       .threshold(rule.threshold)
                       .top_k(rule.top_k)
                       .mass(rule.mass)
                       .causal()
                       .scale(0.125)
                       .threads(1);
  const double scores = static_cast<double>(q.shape()[0]) * scores_of(q.shape()[1], true);
  measure(state, name, q, k, how, rule, 1, scores);
}

void add(const Row& row) {
  static std::set<std::string> added;
  if (!added.insert(row.name()).second) return;
  benchmark::RegisterBenchmark(row.name().c_str(), [row](benchmark::State& state) { extract(state, row); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void add_rows(bool large) {
  std::vector<std::int64_t> lengths = {1024, 2048, 4096, 8192, 16384};
  if (large) lengths.insert(lengths.end(), {32768, 65536, 131072});
  for (const attngraph::backend& backend : attngraph::backends()) {
    if (backend.unavailable) continue;
    const std::string name(backend.name);
    for (const std::int64_t n : lengths) {
      if (name == "reference" && n > 1024) continue;  // three plain loops: a yardstick, not a contestant
      for (const std::int64_t head_dim : {64, 128}) {
        for (const bool causal : {true, false}) add({.backend = name, .head_dim = head_dim, .n = n, .causal = causal});
      }
    }
  }
  for (const attngraph_dtype dtype : {ATTNGRAPH_F16, ATTNGRAPH_BF16, ATTNGRAPH_F64}) {
    for (const std::int64_t head_dim : {64, 128}) add({.dtype = dtype, .head_dim = head_dim});
  }
  for (const double threshold : {0.001, 0.05, 0.1, 0.5}) add({.rule = {.threshold = threshold}});
  add({.n = 16384, .rule = {.top_k = 32}});
  add({.n = 16384, .rule = {.mass = 0.3}});
  add({.n = 16384, .rule = {.mass = 0.9}});  // this softmax is broad: a thousand edges a row
  add({.n = 16384, .rule = {.threshold = 0.01, .top_k = 8}});
  add({.n = 16384, .stats = ATTNGRAPH_STATS_ENTROPY});
  add({.n = 16384, .stats = ATTNGRAPH_STATS_COLUMNS});
  const auto cores = static_cast<std::int32_t>(std::thread::hardware_concurrency());
  for (std::int32_t threads = 2; threads <= cores; threads *= 2) add({.n = 16384, .threads = threads});
}

void add_genesis() {
  const std::optional<std::string> path = find_genesis_8k();
  for (const std::int64_t layer : {5, 12}) {
    for (const Rule& rule : {Rule{.threshold = 0.01}, {.threshold = 0.1}, {.top_k = 32}, {.mass = 0.9}}) {
      const std::string name = fmt::format("extract/cpu/genesis-8k/layer:{}/causal{}/threads:1", layer, words(rule));
      const auto run = [name, path, layer, rule](benchmark::State& state) {
        if (path) return extract_genesis(state, name, *path, layer, rule);
        state.SkipWithError("skipped: set ATTNGRAPH_GENESIS_8K to genesis-8k.safetensors");
      };
      benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMillisecond);
    }
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
  add_rows(large);
  add_genesis();
  benchmark::AddCustomContext("target", measured_target());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
