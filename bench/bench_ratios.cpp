// SPDX-License-Identifier: Apache-2.0
// How much longer than the threshold pass: selections, statistics, element types. One process, one thread; all variants
// of a problem take turns, A B C A B C ..., so that whatever else the machine does disturbs all of them; processor
// time; ratios are taken round by round, and a row shows their median, least and most. Every answer is checked against
// `reference` before the clock starts. A selection is also timed against the threshold that gives as many edges: they
// take time of their own, whatever chose them.
// usage: bench_ratios [--n N] [--d D] [--rounds R] [--causal | --full] [--genesis]
#include <fmt/format.h>

#include <algorithm>
#include <attngraph/attngraph.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <string>
#include <vector>

#include "inputs.hpp"
#include "machine.hpp"
#include "verify.hpp"

namespace {

using namespace ag::bench;

struct Variant {
  std::string name;
  attngraph_dtype dtype = ATTNGRAPH_F32;
  Rule rule{.threshold = 0.01};
  std::uint32_t stats = 0;

  bool selects() const { return rule.top_k > 0 || rule.mass > 0; }
};

struct Settings {
  std::int64_t n = 16384, head_dim = 64;
  int rounds = 7;
  bool causal = true, genesis = false;
};

// Processor time of this thread, in seconds: what other processes take does not count.
double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

attngraph::options options_of(const Variant& v, bool causal) {
  return attngraph::options()
      .backend("cpu")
      .threshold(v.rule.threshold)
      .top_k(v.rule.top_k)
      .mass(v.rule.mass)
      .causal(causal)
      .threads(1)
      .stats(v.stats);
}

struct Problem {
  attngraph::tensor q, k;
};

// The threshold whose graph has nearly `edges` edges, by bisection of its logarithm.
double threshold_with(std::int64_t edges, attngraph::context& context, const Problem& problem,
                      attngraph::options options) {
  double low = std::log(1e-9), high = 0;
  for (int step = 0; step < 20; ++step) {
    const double middle = (low + high) / 2;
    const std::int64_t count = context.extract(problem.q, problem.k, options.threshold(std::exp(middle))).edge_count();
    (count > edges ? low : high) = middle;
    if (std::abs(static_cast<double>(count - edges)) < 0.01 * static_cast<double>(edges)) return std::exp(middle);
  }
  return std::exp(high);
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

// "median (least - most)" of times, round by round.
std::string ratio_text(const std::vector<double>& of, const std::vector<double>& to) {
  std::vector<double> ratios;
  for (std::size_t r = 0; r < of.size(); ++r) ratios.push_back(of[r] / to[r]);
  return fmt::format("{:.2f} ({:.2f} - {:.2f})", median(ratios), *std::min_element(ratios.begin(), ratios.end()),
                     *std::max_element(ratios.begin(), ratios.end()));
}

// Rows of one table: the first variant is the yardstick.
void compare(const std::string& title, const std::vector<Variant>& variants, const std::vector<Problem>& problems,
             const Settings& settings, double scale, double scores) {
  attngraph::context context("cpu");
  std::vector<attngraph::options> options, peers;  // a peer is the threshold pass with as many edges
  std::vector<std::int64_t> edges;
  std::vector<std::string> targets;
  for (std::size_t v = 0; v < variants.size(); ++v) {
    options.push_back(options_of(variants[v], settings.causal));
    if (scale != 0) options.back().scale(scale);
    const attngraph::result answer = context.extract(problems[v].q, problems[v].k, options[v]);
    check_extract(context, problems[v].q, problems[v].k, options[v], variants[v].rule, answer);
    edges.push_back(answer.edge_count());
    targets.emplace_back(answer.report().target);
    attngraph::options peer = options[v];
    peer.top_k(0).mass(0);
    if (variants[v].selects()) peer.threshold(threshold_with(edges[v], context, problems[v], peer));
    peers.push_back(peer);
  }
  const auto timed = [&](std::size_t v, const attngraph::options& how) {
    const double begin = processor_seconds();
    context.extract(problems[v].q, problems[v].k, how);
    return processor_seconds() - begin;
  };
  std::vector<std::vector<double>> seconds(variants.size()), peer_seconds(variants.size());
  for (int round = 0; round < settings.rounds; ++round) {
    for (std::size_t v = 0; v < variants.size(); ++v) {
      seconds[v].push_back(timed(v, options[v]));
      if (variants[v].selects()) peer_seconds[v].push_back(timed(v, peers[v]));
    }
  }
  fmt::print("\n{}\n\n", title);
  fmt::print("| variant | path | edges | median s | 1e9 scores/s | times the first (least - most) ");
  fmt::print("| times the threshold with as many edges |\n|---|---|---|---|---|---|---|\n");
  for (std::size_t v = 0; v < variants.size(); ++v) {
    const double middle = median(seconds[v]);
    fmt::print("| {} | {} | {} | {:.3f} | {:.3f} | {} | {} |\n", variants[v].name, targets[v], edges[v], middle,
               scores / middle * 1e-9, ratio_text(seconds[v], seconds[0]),
               variants[v].selects() ? ratio_text(seconds[v], peer_seconds[v]) : "");
    std::fflush(stdout);
  }
}

double pairs(std::int64_t n, bool causal) {
  const auto x = static_cast<double>(n);
  return causal ? x * (x + 1) / 2 : x * x;
}

void synthetic(const Settings& s) {
  const QkInput f32(s.n, s.head_dim, ATTNGRAPH_F32), f16(s.n, s.head_dim, ATTNGRAPH_F16),
      bf16(s.n, s.head_dim, ATTNGRAPH_BF16);
  const std::vector<Variant> variants = {
      {"t = 0.01"},
      {"t = 0.01, entropy", ATTNGRAPH_F32, {.threshold = 0.01}, ATTNGRAPH_STATS_ENTROPY},
      {"top-k 8", ATTNGRAPH_F32, {.top_k = 8}},
      {"top-k 32", ATTNGRAPH_F32, {.top_k = 32}},
      {"top-k 128", ATTNGRAPH_F32, {.top_k = 128}},
      {"mass 0.3", ATTNGRAPH_F32, {.mass = 0.3}},
      {"mass 0.5", ATTNGRAPH_F32, {.mass = 0.5}},
      {"mass 0.9", ATTNGRAPH_F32, {.mass = 0.9}},
      {"f16, t = 0.01", ATTNGRAPH_F16},
      {"bf16, t = 0.01", ATTNGRAPH_BF16}};
  std::vector<Problem> problems;
  for (const Variant& v : variants) {
    const QkInput& input = v.dtype == ATTNGRAPH_F32 ? f32 : v.dtype == ATTNGRAPH_F16 ? f16 : bf16;
    problems.push_back({input.q(), input.k()});
  }
  compare(fmt::format("N = {}, D = {}, {}", s.n, s.head_dim, s.causal ? "causal" : "full"), variants, problems, s, 0,
          pairs(s.n, s.causal));
}

void genesis(const Settings& s) {
  const auto path = find_genesis_8k();
  if (!path) {
    fmt::print("skipped: set ATTNGRAPH_GENESIS_8K to genesis-8k.safetensors\n");
    return;
  }
  attngraph::file file(*path);
  for (const int layer : {5, 12}) {
    const attngraph::tensor q = file.read(fmt::format("q.{}", layer)), k = file.read(fmt::format("k.{}", layer));
    const std::vector<Variant> variants = {
        {"t = 0.01", ATTNGRAPH_F16},
        {"t = 0.01, entropy", ATTNGRAPH_F16, {.threshold = 0.01}, ATTNGRAPH_STATS_ENTROPY},
        {"top-k 32", ATTNGRAPH_F16, {.top_k = 32}},
        {"mass 0.5", ATTNGRAPH_F16, {.mass = 0.5}},
        {"mass 0.9", ATTNGRAPH_F16, {.mass = 0.9}}};
    Settings causal = s;
    causal.causal = true;
    compare(fmt::format("genesis-8k, layer {}", layer), variants, std::vector<Problem>(variants.size(), {q, k}), causal,
            0.125, static_cast<double>(q.shape()[0]) * pairs(q.shape()[1], true));
  }
}

}  // namespace

int main(int argc, char** argv) try {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::atoll(argv[++i]) : 0; };
    if (word == "--n") {
      settings.n = number();
    } else if (word == "--d") {
      settings.head_dim = number();
    } else if (word == "--rounds") {
      settings.rounds = static_cast<int>(number());
    } else if (word == "--full") {
      settings.causal = false;
    } else if (word == "--causal") {
      settings.causal = true;
    } else if (word == "--genesis") {
      settings.genesis = true;
    } else {
      fmt::print(stderr, "usage: bench_ratios [--n N] [--d D] [--rounds R] [--causal | --full] [--genesis]\n");
      return 2;
    }
  }
  if (settings.n < 1 || settings.head_dim < 1 || settings.rounds < 1) {
    fmt::print(stderr, "bench_ratios: --n, --d and --rounds are at least 1\n");
    return 2;
  }
  fmt::print("target {}, {} rounds, processor time of one thread\n", measured_target(), settings.rounds);
  if (settings.genesis) {
    genesis(settings);
  } else {
    synthetic(settings);
  }
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "bench_ratios: {}\n", e.what());
  return 1;
}
