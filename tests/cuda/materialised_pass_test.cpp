// SPDX-License-Identifier: Apache-2.0
// The textbook pipeline from operands to states, candidates and dense weights, against plain loops in double.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "../../cuda/materialised/cublas.hpp"
#include "../../cuda/stages/key_range.hpp"
#include "../../cuda/stages/passes.hpp"
#include "../../cuda/stages/stages.hpp"
#include "core/numbers.hpp"
#include "device_problem.hpp"
#include "support/inputs.hpp"
#include "support/samples.hpp"

namespace ag::test {
namespace {

// What the pass says of a chunk.
struct Answer {
  std::vector<double> reference, sum, weighted;
  std::vector<std::int32_t> max_key, count, keys;
  std::vector<std::int64_t> offsets;
  std::vector<float> scores, dense;
  bool operator==(const Answer&) const = default;
};

template <class T>
std::vector<T> download(const T* data, std::int64_t n) {
  std::vector<T> values(idx(n));
  if (n > 0) cuda_ok(cudaMemcpy(values.data(), data, idx(n) * sizeof(T), cudaMemcpyDeviceToHost), "download");
  return values;
}

Answer run(const DeviceChunk& on_device, cuda::PassOptions options, bool dense, std::size_t workspace_bytes = 1 << 20) {
  const cuda::ScorePass& pass = cuda::materialised_pass();
  const cuda::Chunk& c = on_device.chunk;
  const std::int64_t rows = c.rows();
  cuda::PassWork work;
  work.batch = on_device.table();
  work.chunks = {c};
  work.key_begin = cuda::key_range(c.mask, c.query_begin).begin;
  work.key_end = cuda::key_range(c.mask, c.query_begin + c.queries - 1).end;
  work.mask_tensor = c.mask.tensor.data != nullptr;
  work.alibi = c.mask.slopes != nullptr;
  work.skips_bad_keys = true;
  work.scale = c.scale;
  work.softcap = c.softcap;
  work.options = options;
  work.workspace_bytes = workspace_bytes;
  work.operands.dtype = c.q.dtype;
  work.operands.pitch = (c.head_dim + 15) / 16 * 16;
  const DeviceArray<std::byte> q(idx(rows * work.operands.row_bytes())), k(idx(c.keys * work.operands.row_bytes()));
  work.operands.q = q.data();
  work.operands.k = k.data();
  cuda_ok(cuda::launch_prepare_operands(work.batch, work.operands,
                                        cuda::row_storage({&c, 1}, static_cast<DType>(c.q.dtype), c.head_dim),
                                        kDefaultStream),
          "operands");
  PassArrays arrays(rows, 0);
  work.states = arrays.states;
  work.count = arrays.count.data();
  const DeviceArray<float> weights(dense ? idx(rows * c.keys) : 0);
  if (dense) work.dense = {weights.data()};
  cuda::PassMemory memory;
  pass.statistics(work, memory, kDefaultStream);
  pass.candidates(work, {nullptr, nullptr, work.count, nullptr, 0}, memory, kDefaultStream);
  wait_for_device();
  Answer a;
  a.count = arrays.count.download();
  a.offsets = {0};
  for (const std::int32_t count : a.count) a.offsets.push_back(a.offsets.back() + count);
  const DeviceArray<std::int64_t> offsets(a.offsets);
  const DeviceArray<std::int32_t> keys(idx(a.offsets.back()) + 1);
  const DeviceArray<float> scores(idx(a.offsets.back()) + 1);
  pass.candidates(work, {keys.data(), scores.data(), work.count, offsets.data(), 0}, memory, kDefaultStream);
  wait_for_device();
  a.reference = arrays.reference.download();
  a.sum = arrays.sum.download();
  if (options.entropy) a.weighted = arrays.weighted.download();
  a.max_key = arrays.max_key.download();
  a.keys = keys.download(0, idx(a.offsets.back()));
  a.scores = scores.download(0, idx(a.offsets.back()));
  a.dense = weights.download();
  return a;
}

// Scores of the allowed keys of a query by the definition; -inf where masked.
std::vector<double> exact_scores(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t i) {
  std::vector<double> s(idx(p.keys()), -HUGE_VAL);
  if (!std::isfinite(row_length(p.q, b, h, i))) return s;
  const KeyRange range = p.mask.range(b, i, p.keys());
  const std::int64_t kh = p.key_head_of(h);
  for (std::int64_t j = range.begin; j < range.end; ++j) {
    if (!std::isfinite(row_length(p.k, b, kh, j))) continue;
    double x = 0;
    for (std::int64_t d = 0; d < p.head_dim(); ++d) {
      x += load_double(p.q.dtype, p.q.at(b, h, i, d)) * load_double(p.k.dtype, p.k.at(b, kh, j, d));
    }
    x *= p.scale;
    if (p.softcap > 0) x = p.softcap * std::tanh(x / p.softcap);
    if (p.mask.tensor) x += mask_bias(p.mask.tensor.dtype, p.mask.tensor.at(b, h, i, j));
    s[idx(j)] = x;
  }
  return s;
}

void expect_right(const Problem& p, const DeviceChunk& on_device, const Answer& a, double band) {
  const cuda::Chunk& c = on_device.chunk;
  for (std::int64_t r = 0; r < c.rows(); ++r) {
    const std::int64_t h = on_device.heads[idx(r / c.queries)], i = c.query_begin + r % c.queries;
    SCOPED_TRACE(fmt::format("head {}, query {}", h, i));
    const std::vector<double> s = exact_scores(p, on_device.batch, h, i);
    double given = 0;
    if (p.logsumexp) {
      given = load_double(p.logsumexp.dtype, p.logsumexp.at(on_device.batch, h, i)) * p.logsumexp_unit;
    }
    const double maximum = std::isinf(given) ? -HUGE_VAL : *std::max_element(s.begin(), s.end());
    double sum = 0, weighted = 0;
    for (const double x : s) {
      if (std::isinf(x)) continue;
      sum += std::exp(x - maximum);
      weighted += std::exp(x - maximum) * (x - maximum);
    }
    std::vector<bool> marked(s.size());
    ASSERT_EQ(a.offsets[idx(r)] + a.count[idx(r)], a.offsets[idx(r) + 1]);
    for (std::int64_t e = a.offsets[idx(r)]; e < a.offsets[idx(r) + 1]; ++e) {
      const std::int32_t key = a.keys[idx(e)];
      ASSERT_GE(key, 0);
      ASSERT_LT(key, c.keys);
      if (e > a.offsets[idx(r)]) {
        ASSERT_LT(a.keys[idx(e) - 1], key) << "keys ascend";
      }
      marked[idx(key)] = true;
      EXPECT_NEAR(static_cast<double>(a.scores[idx(e)]) / 1.4426950408889634, s[idx(key)], band + 1e-5)
          << "key " << key;
    }
    if (std::isinf(maximum)) {
      EXPECT_EQ(a.max_key[idx(r)], -1);
      EXPECT_EQ(a.sum[idx(r)], 0.0);
      EXPECT_EQ(a.count[idx(r)], 0);
      for (std::size_t j = 0; j < s.size() && !a.dense.empty(); ++j) EXPECT_EQ(a.dense[idx(r) * s.size() + j], 0.0f);
      continue;
    }
    double logsumexp = maximum + std::log(sum);
    EXPECT_NEAR(s[idx(a.max_key[idx(r)])], maximum, 2 * band);
    EXPECT_NEAR(a.reference[idx(r)] + std::log(a.sum[idx(r)]), logsumexp, band + 1e-6);
    if (!a.weighted.empty()) {
      EXPECT_NEAR(a.weighted[idx(r)] / a.sum[idx(r)] - std::log(a.sum[idx(r)]), weighted / sum - std::log(sum), 1e-4);
    }
    if (p.sinks) {
      logsumexp = std::log(std::exp(logsumexp) + std::exp(load_double(p.sinks.dtype, p.sinks.at(on_device.batch, h))));
    }
    if (p.logsumexp) logsumexp = given;
    const double cut = logsumexp + c.log_threshold;
    for (std::size_t j = 0; j < s.size(); ++j) {
      const bool is_edge = !std::isinf(s[j]) && s[j] >= cut;
      EXPECT_TRUE(marked[j] || !is_edge) << "key " << j << " is an edge";
      // The first key that may be the largest is a candidate, too.
      const bool is_none = std::isinf(s[j]) || (s[j] < cut - 3 * band - 1e-4 && s[j] < maximum - 3 * band - 1e-4);
      EXPECT_FALSE(marked[j] && is_none) << "key " << j << " is none";
      if (a.dense.empty()) continue;
      const double weight = std::isinf(s[j]) ? 0 : std::exp(s[j] - logsumexp);
      EXPECT_NEAR(a.dense[idx(r) * s.size() + j], weight, (2e-5 + 2 * band) * weight + 1e-37) << "key " << j;
    }
  }
}

// Bands of the rows of a chunk by the model; returns the widest.
double set_bands(const Problem& p, DeviceChunk& chunk) {
  const cuda::BandModel model = band_model(p, chunk.batch, p.key_head_of(chunk.heads.front()), p.q.dtype);
  chunk.facts.band = chunk.facts.band_f64 = model;
  double widest = 0;
  for (const std::int64_t h : chunk.heads) {
    for (std::int64_t i = chunk.chunk.query_begin; i < chunk.chunk.query_begin + chunk.chunk.queries; ++i) {
      const double length = row_length(p.q, chunk.batch, h, i);
      if (std::isfinite(length)) widest = std::max(widest, model.band(length) + 2 * model.bias_error(30));
    }
  }
  return widest;
}

void check(const Problem& p, std::int64_t queries_per_chunk) {
  const DeviceProblem device(p);
  device.for_each_chunk(queries_per_chunk, [&](DeviceChunk chunk) {
    const double band = set_bands(p, chunk);
    cuda::PassOptions options;
    options.entropy = true;
    options.compaction = cuda::Compaction::kThrust;
    const Answer thrust = run(chunk, options, true);
    expect_right(p, chunk, thrust, band);
    options.compaction = cuda::Compaction::kBallot;
    for_every_schedule([&] { EXPECT_EQ(run(chunk, options, true), thrust) << "the same bits by either way"; });
    options.entropy = false;
    const Answer plain = run(chunk, options, false);
    EXPECT_EQ(plain.keys, thrust.keys);
    EXPECT_EQ(plain.sum, thrust.sum);
  });
}

TEST(MaterialisedPass, EveryTypeAndHeadSize) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const std::int64_t dim : {1, 31, 64, 80, 128}) {
      Case c;
      c.name = fmt::format("{} D {}", name_of(dtype), dim);
      c.dtype = dtype;
      c.head_dim = dim;
      c.query_heads = 6;
      c.key_heads = 2;
      c.queries = 19;
      c.keys = 150;
      SCOPED_TRACE(c.name);
      const Inputs inputs(c);
      check(inputs.problem(), 12);
    }
  }
}

TEST(MaterialisedPass, EveryMaskRule) {
  Case c;
  c.dtype = DType::kF16;
  c.batch = 2;
  c.query_heads = 4;
  c.key_heads = 2;
  c.queries = 40;
  c.keys = 90;
  c.head_dim = 32;
  const auto run_case = [&](const char* name, const auto& change) {
    Case changed = c;
    change(changed);
    SCOPED_TRACE(name);
    const Inputs inputs(changed);
    check(inputs.problem(), 17);
  };
  run_case("causal", [](Case& x) {
    x.causal = true;
    x.query_offset = 50;
  });
  run_case("causal from the first key", [](Case& x) { x.causal = true; });
  run_case("causal before the first key", [](Case& x) {
    x.causal = true;
    x.query_offset = -20;
  });
  run_case("window", [](Case& x) {
    x.causal = true;
    x.window = 9;
    x.query_offset = 50;
  });
  run_case("window on both sides", [](Case& x) { x.window = 9; });
  run_case("lengths", [](Case& x) { x.key_lengths = {70, 0}; });
  run_case("bool mask", [](Case& x) { x.mask = MaskKind::kBool; });
  run_case("additive mask", [](Case& x) {
    x.mask = MaskKind::kAdditive;
    x.mask_broadcast = {true, false, false, false};
  });
  run_case("softcap", [](Case& x) { x.softcap = 5; });
  run_case("sinks", [](Case& x) { x.sinks = true; });
  run_case("logsumexp", [](Case& x) { x.lse = GivenLse::kBase2; });
  run_case("part of the queries", [](Case& x) {
    x.query_begin = 5;
    x.query_end = 31;
    x.heads = {1, 2, 3};
  });
  run_case("no threshold", [](Case& x) {
    x.threshold = 0;
    x.top_k = 3;
  });
}

TEST(MaterialisedPass, RealQueriesAndKeys) {
  const auto file = open_sample("genesis-256-weights.safetensors");
  const Problem p = sample_problem(*file, "12", 0.01);
  Problem part = p;
  part.query_begin = 128;
  part.heads = {0, 1, 2, 8};
  check(part, 64);
}

TEST(MaterialisedPass, CandidatesAreFewMoreThanTheEdges) {
  const auto file = open_sample("genesis-256-weights.safetensors");
  const Problem p = sample_problem(*file, "12", 0.01);
  const DeviceProblem device(p);
  std::int64_t candidates = 0;
  device.for_each_chunk(256, [&](DeviceChunk chunk) {
    set_bands(p, chunk);
    candidates += run(chunk, {}, false).offsets.back();
  });
  EXPECT_GE(candidates, 23727);
  EXPECT_LE(candidates, 23727 * 1.001 + 9 * 256) << "and a row's largest score where it is no edge";
}

TEST(MaterialisedPass, TheEnvironmentChoosesTheCompaction) {
  Case c;
  const Inputs inputs(c);
  const Problem p = inputs.problem();
  const DeviceProblem device(p);
  DeviceChunk chunk = device.chunk(0, {0}, 0, 20);
  set_bands(p, chunk);
  const Answer usual = run(chunk, {}, false);
  setenv("ATTNGRAPH_CUDA_COMPACTION", "thrust", 1);
  EXPECT_EQ(run(chunk, {}, false), usual);
  setenv("ATTNGRAPH_CUDA_COMPACTION", "sort", 1);
  EXPECT_THROW(run(chunk, {}, false), Error);
  unsetenv("ATTNGRAPH_CUDA_COMPACTION");
}

// Prints why cuBLAS is missing with this file and leaves; the library is opened once a process.
[[noreturn]] void say_what_is_missing(const char* file) {
  setenv("ATTNGRAPH_CUBLAS", file, 1);
  std::fputs(cuda::cublas_missing().c_str(), stderr);
  std::exit(cuda::cublas_missing().empty() ? 1 : 0);
}

TEST(MaterialisedPassDeathTest, AMissingCublasIsASentence) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(say_what_is_missing("/nowhere/libcublas.so.13"), testing::ExitedWithCode(0),
              "cuBLAS cannot be opened .*nowhere.*ATTNGRAPH_CUBLAS");
  EXPECT_EXIT(say_what_is_missing("libm.so.6"), testing::ExitedWithCode(0),
              "libm.so.6 is no cuBLAS that this build can use: it has no cublasCreate_v2");
}

}  // namespace
}  // namespace ag::test
