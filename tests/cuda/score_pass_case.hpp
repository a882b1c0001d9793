// SPDX-License-Identifier: Apache-2.0
// One chunk for a score pass, with its operands on the device and its exact scores on the host: what the fused kernel
// is held to, row by row, by plain loops in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "../../cuda/stages/passes.hpp"
#include "../../cuda/stages/stages.hpp"
#include "core/dtype.hpp"
#include "device_problem.hpp"
#include "plan/cuda_rooms.hpp"
#include "support.hpp"
#include "support/random.hpp"
#include "support/rounding.hpp"

namespace ag::test {

inline constexpr double kNone = -std::numeric_limits<double>::infinity();

struct PassCase {
  DType dtype = DType::kF16;
  std::int64_t dim = 64, heads = 1, query_begin = 0, queries = 1, keys = 1;
  double scale = 0.125, softcap = 0, threshold = 0.02;  // 0: every allowed pair
  bool causal = false;
  std::int64_t window = 0, query_offset = 0, key_count = -1;  // -1: keys
  std::vector<std::int64_t> bad_keys, bad_queries;            // queries of head 0, local
  DType mask_dtype = DType::kBool;                            // of `mask`
  std::vector<double> mask;                                   // none, or [heads][query_begin + queries][keys]
  std::vector<double> sinks;                                  // none, or [heads]
  std::vector<double> slopes;                                 // none, or [heads]
  bool given_logsumexp = false;                               // the exact one
  std::int64_t pitch = 0;                                     // 0: dim, rounded up to 16
  cuda::PassOptions options;
  std::int64_t capacity = 0;  // 0: what the plan's rule says
  double band = 0;            // 0: by the largest score, biases included
  std::vector<double> q, k;   // [heads][queries][dim], [keys][dim]; rounded when the case is run
};

// Values like those of a trained model's heads: a few keys stand out for a query.
inline void fill_random(PassCase& c, std::uint64_t seed, double size = 1) {
  Random random(seed);
  c.q = random.normals(static_cast<std::size_t>(c.heads * c.queries * c.dim));
  c.k = random.normals(static_cast<std::size_t>(c.keys * c.dim));
  for (double& x : c.q) x *= size;
}

// Every element of the queries q, of the keys k.
inline void fill_constant(PassCase& c, double q, double k) {
  c.q.assign(static_cast<std::size_t>(c.heads * c.queries * c.dim), q);
  c.k.assign(static_cast<std::size_t>(c.keys * c.dim), k);
}

// Key j has the score scale * score_of(j) in every row.
template <class ScoreOf>
void fill_scores(PassCase& c, ScoreOf&& score_of) {
  fill_constant(c, 0, 0);
  for (std::int64_t r = 0; r < c.heads * c.queries; ++r) c.q[static_cast<std::size_t>(r * c.dim)] = 1;
  for (std::int64_t j = 0; j < c.keys; ++j) c.k[static_cast<std::size_t>(j * c.dim)] = score_of(j);
}

class RunPass {
 public:
  explicit RunPass(PassCase made) : c(std::move(made)) {
    for (double& x : c.q) x = round_to(c.dtype, x);
    for (double& x : c.k) x = round_to(c.dtype, x);
    if (c.key_count < 0) c.key_count = c.keys;
    score_exactly();
  }

  // Per row: [heads][queries].
  std::int64_t rows() const { return c.heads * c.queries; }
  double exact(std::int64_t row, std::int64_t key) const { return score_[at(row * c.keys + key)]; }  // kNone: masked
  double exact_logsumexp(std::int64_t row) const { return logsumexp_[at(row)]; }                     // sinks included

  void run(const cuda::ScorePass& pass);

  // Of a row after run(); states in natural logarithms, splits merged.
  struct State {
    double reference, sum, maximum, weighted;
    std::int32_t max_key, count;
    std::vector<std::int32_t> keys;  // the stored ones
    std::vector<float> scores;
  };
  State state(std::int64_t row) const {
    const std::size_t n = at(row);
    State x{reference[n], sum[n], maximum[n], weighted.empty() ? 0 : weighted[n], max_key[n], count[n], {}, {}};
    const std::int64_t stored = std::min<std::int64_t>(x.count, capacity);
    const auto first = static_cast<std::ptrdiff_t>(n) * capacity;
    x.keys.assign(keys.begin() + first, keys.begin() + first + stored);
    x.scores.assign(scores.begin() + first, scores.begin() + first + stored);
    return x;
  }
  bool in_double = false;  // the pass has found that single precision will not do

  PassCase c;
  std::int64_t capacity = 0;
  float band = 0;  // of every row

 private:
  static std::size_t at(std::int64_t n) { return static_cast<std::size_t>(n); }

  bool is_allowed(std::int64_t g, std::int64_t local, std::int64_t j) const {
    const std::int64_t position = c.query_begin + local + c.query_offset;
    if (j >= c.key_count) return false;
    if (c.causal && j > position) return false;
    if (c.window > 0 && j <= position - c.window) return false;
    if (c.window > 0 && !c.causal && j >= position + c.window) return false;
    if (std::count(c.bad_keys.begin(), c.bad_keys.end(), j) > 0) return false;
    return g != 0 || std::count(c.bad_queries.begin(), c.bad_queries.end(), local) == 0;
  }

  double bias(std::int64_t g, std::int64_t local, std::int64_t j) const {
    if (c.mask.empty()) return 0;
    const double x = c.mask[at((g * (c.query_begin + c.queries) + c.query_begin + local) * c.keys + j)];
    if (c.mask_dtype == DType::kBool) return x != 0 ? 0 : kNone;
    const double stored = round_to(c.mask_dtype, x);
    return stored <= lowest_of(c.mask_dtype) ? kNone : stored;
  }

  void score_exactly() {
    double largest = 0;
    for (std::int64_t r = 0; r < rows(); ++r) {
      double row_maximum = c.sinks.empty() ? kNone : c.sinks[at(r / c.queries)];
      for (std::int64_t j = 0; j < c.keys; ++j) {
        double s = 0, magnitude = 0;
        for (std::int64_t d = 0; d < c.dim; ++d) {
          const double product = c.q[at(r * c.dim + d)] * c.k[at(j * c.dim + d)];
          s += product;
          magnitude += std::abs(product);
        }
        if (!is_allowed(r / c.queries, r % c.queries, j)) {
          score_.push_back(kNone);
          continue;
        }
        s *= c.scale;
        if (c.softcap > 0) s = c.softcap * std::tanh(s / c.softcap);
        s += bias(r / c.queries, r % c.queries, j);
        if (!c.slopes.empty()) {
          const std::int64_t position = c.query_begin + r % c.queries + c.query_offset;
          s -= c.slopes[at(r / c.queries)] * static_cast<double>(std::abs(position - j));
        }
        if (s > kNone) largest = std::max({largest, std::abs(c.scale) * magnitude, std::abs(s)});
        score_.push_back(s);
        row_maximum = std::max(row_maximum, s);
      }
      double row_sum = c.sinks.empty() ? 0 : std::exp(c.sinks[at(r / c.queries)] - row_maximum);
      for (std::int64_t j = 0; j < c.keys; ++j)
        row_sum += exact(r, j) > kNone ? std::exp(exact(r, j) - row_maximum) : 0;
      logsumexp_.push_back(row_maximum > kNone ? row_maximum + std::log(row_sum) : kNone);
    }
    // Twice what float makes of the largest score here, and of sums: enough for every row, and tight enough to see a
    // wrong bit of an operand.
    band = static_cast<float>(c.band > 0 ? c.band : 1e-5 + 4e-6 * largest);
  }

  DeviceArray<std::byte> operand(const std::vector<double>& values, std::int64_t row_count, int exponent) const {
    const std::int64_t pitch = pass_pitch();
    const bool split = c.dtype == DType::kF32;
    std::vector<std::byte> bytes(at(row_count * pitch * (split ? 4 : 2)));
    for (std::int64_t n = 0; n < row_count; ++n) {
      for (std::int64_t d = 0; d < c.dim; ++d) {
        const double x = values[at(n * c.dim + d)];
        if (!split) {
          store_rounded(c.dtype, x, bytes.data() + (n * pitch + d) * 2);
          continue;
        }
        const double scaled = std::ldexp(x, exponent), high = round_to(DType::kF16, scaled);
        store_rounded(DType::kF16, high, bytes.data() + (n * 2 * pitch + d) * 2);
        store_rounded(DType::kF16, scaled - high, bytes.data() + ((n * 2 + 1) * pitch + d) * 2);
      }
    }
    return DeviceArray<std::byte>(bytes);
  }

  std::int64_t pass_pitch() const { return c.pitch > 0 ? c.pitch : (c.dim + 15) / 16 * 16; }

  std::vector<double> score_, logsumexp_;
  std::vector<double> reference, sum, maximum, weighted;
  std::vector<std::int32_t> max_key, count, keys;
  std::vector<float> scores;
};

inline void RunPass::run(const cuda::ScorePass& pass) {
  cuda::Chunk chunk;
  chunk.heads = c.heads;
  chunk.query_begin = c.query_begin;
  chunk.queries = c.queries;
  chunk.all_queries = c.query_begin + c.queries;
  chunk.keys = c.keys;
  chunk.head_dim = c.dim;
  chunk.q.dtype = chunk.k.dtype = static_cast<std::int32_t>(c.dtype);
  std::vector<std::int64_t> ids(at(c.heads));
  for (std::int64_t g = 0; g < c.heads; ++g) ids[at(g)] = g;
  const DeviceArray<std::int64_t> head_ids(ids);
  chunk.head_ids = head_ids.data();
  chunk.scale = c.scale;
  chunk.softcap = c.softcap;
  chunk.threshold = c.threshold;
  chunk.log_threshold = std::log(c.threshold);
  const DeviceArray<double> sinks(c.sinks);
  if (!c.sinks.empty()) chunk.sink = sinks.data();
  const DeviceArray<double> slopes(c.slopes);
  if (!c.slopes.empty()) chunk.mask.slopes = slopes.data();
  const DeviceArray<double> given(c.given_logsumexp ? logsumexp_ : std::vector<double>());
  if (c.given_logsumexp) chunk.given_logsumexp = given.data();
  chunk.mask.causal = c.causal;
  chunk.mask.query_offset = c.query_offset;
  chunk.mask.window = c.window;
  chunk.mask.key_count = c.key_count;
  std::vector<std::byte> mask_bytes(c.mask.size() * size_of(c.mask_dtype));
  for (std::size_t n = 0; n < c.mask.size(); ++n) {
    store_rounded(c.mask_dtype, c.mask[n], mask_bytes.data() + n * size_of(c.mask_dtype));
  }
  const DeviceArray<std::byte> mask(mask_bytes);
  if (!c.mask.empty()) {
    chunk.mask.tensor = {mask.data(), static_cast<std::int32_t>(c.mask_dtype), (c.query_begin + c.queries) * c.keys,
                         c.keys, 1};
  }

  // Lengths as inspect_rows has them.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto length = [&](const std::vector<double>& values, std::int64_t row) {
    double sum = 0;
    for (std::int64_t d = 0; d < c.dim; ++d) sum += values[at(row * c.dim + d)] * values[at(row * c.dim + d)];
    return std::sqrt(sum);
  };
  std::vector<double> q_norms(at(c.heads * chunk.all_queries)), k_norms;
  for (std::int64_t g = 0; g < c.heads; ++g) {
    for (std::int64_t i = 0; i < c.queries; ++i) {
      q_norms[at(g * chunk.all_queries + c.query_begin + i)] = length(c.q, g * c.queries + i);
    }
  }
  for (const std::int64_t i : c.bad_queries) q_norms[at(c.query_begin + i)] = nan;
  for (std::int64_t j = 0; j < c.key_count; ++j) k_norms.push_back(length(c.k, j));
  for (const std::int64_t j : c.bad_keys) {
    if (j < c.key_count) k_norms[at(j)] = nan;
  }
  const DeviceArray<double> d_q_norms(q_norms), d_k_norms(k_norms);
  chunk.q_norms = d_q_norms.data();
  chunk.k_norms = d_k_norms.data();

  cuda::PassWork work;
  const DeviceArray<cuda::Chunk> d_chunk(std::vector<cuda::Chunk>{chunk});
  const DeviceArray<cuda::ChunkFacts> d_facts(1);
  const DeviceArray<std::uint8_t> bad_keys(at(c.keys));
  work.batch = DeviceChunk::batch_of(chunk, d_chunk.data(), d_facts.data());
  work.chunks = {chunk};
  work.mask_tensor = !c.mask.empty();
  work.alibi = !c.slopes.empty();
  work.given_logsumexp = c.given_logsumexp;
  work.scale = c.scale;
  work.softcap = c.softcap;
  work.options = c.options;
  cuda::JudgeRules rules;
  rules.band.sum = static_cast<double>(band);
  if ((!c.mask.empty() && c.mask_dtype != DType::kBool) || !c.slopes.empty()) {
    rules.band.bias_unit = 0x1p-23;
    rules.band.depth = 30;
  }
  rules.scale = c.scale;
  rules.softcap = c.softcap;
  rules.splits_f32 = c.dtype == DType::kF32;
  rules.base2 = pass.compares_base2(work);
  cuda_ok(cuda::launch_judge_chunks(work.batch, rules, bad_keys.data(), kDefaultStream));
  wait_for_device();
  const cuda::ChunkFacts facts = d_facts.download()[0];
  ASSERT_FALSE(facts.in_double());

  work.operands.dtype = static_cast<std::int32_t>(c.dtype);
  work.operands.split = c.dtype == DType::kF32;
  work.operands.packed = true;
  work.operands.pitch = pass_pitch();
  std::vector<double> packed;  // query by query
  for (std::int64_t i = 0; i < c.queries; ++i) {
    for (std::int64_t g = 0; g < c.heads; ++g) {
      const auto row = c.q.begin() + (g * c.queries + i) * c.dim;
      packed.insert(packed.end(), row, row + c.dim);
    }
  }
  std::vector<double> some_keys = c.k;  // those after key_count are not to be read
  std::fill(some_keys.begin() + c.key_count * c.dim, some_keys.end(), nan);
  for (const std::int64_t j : c.bad_keys) some_keys[at(j * c.dim)] = nan;
  for (const std::int64_t i : c.bad_queries) packed[at(i * c.heads * c.dim)] = nan;
  const DeviceArray<std::byte> q_operand = operand(packed, rows(), facts.units.q_exponent);
  const DeviceArray<std::byte> k_operand = operand(some_keys, c.keys, facts.units.k_exponent);
  work.operands.q = q_operand.data();
  work.operands.k = k_operand.data();

  const std::int64_t splits = c.options.splits;
  const double bounded = c.given_logsumexp ? 0.0 : c.threshold;
  capacity = c.capacity > 0 ? c.capacity : candidate_room(bounded, c.keys);
  const std::size_t states = at(splits * rows());
  const DeviceArray<double> d_reference(states), d_sum(states), d_weighted(c.options.entropy ? states : 0);
  const DeviceArray<std::int32_t> d_max_key(at(rows())), d_count(at(rows())), d_keys(at(rows() * capacity));
  const DeviceArray<float> d_scores(at(rows() * capacity));
  work.states = {c.options.splits, d_reference.data(), d_sum.data(), d_max_key.data(), d_weighted.data()};
  work.count = d_count.data();
  cuda::PassMemory memory;
  pass.statistics(work, memory, kDefaultStream);
  pass.candidates(work, {nullptr, nullptr, d_count.data(), nullptr, 0}, memory, kDefaultStream);  // counted only
  wait_for_device();
  const std::vector<std::int32_t> counted = d_count.download();
  pass.candidates(work, {d_keys.data(), d_scores.data(), d_count.data(), nullptr, capacity}, memory, kDefaultStream);
  wait_for_device();
  in_double = d_facts.download()[0].in_double();
  if (in_double) return;
  reference = d_reference.download(0, at(rows()));
  sum = d_sum.download(0, at(rows()));
  weighted = c.options.entropy ? d_weighted.download(0, at(rows())) : std::vector<double>();
  max_key = d_max_key.download();
  count = d_count.download();
  EXPECT_EQ(counted, count) << "counting and writing find the same";
  std::vector<float> top(states);
  cuda_ok(cudaMemcpy(top.data(), memory.top.data(), states * sizeof(float), cudaMemcpyDeviceToHost));
  maximum.assign(at(rows()), kNone);
  for (std::size_t n = 0; n < states; ++n) {
    double& largest = maximum[n % at(rows())];
    if (top[n] > -3.4e38f) largest = std::max(largest, static_cast<double>(top[n]) * facts.units.natural_unit);
  }
  keys.assign(at(rows() * capacity), 0);
  scores.assign(at(rows() * capacity), 0);
  for (std::size_t n = 0; n < at(rows()); ++n) {  // no more than was written
    const std::size_t first = n * at(capacity), stored = std::min(at(count[n]), at(capacity));
    const auto row_keys = d_keys.download(first, stored);
    const auto row_scores = d_scores.download(first, stored);
    std::copy(row_keys.begin(), row_keys.end(), keys.begin() + static_cast<std::ptrdiff_t>(first));
    std::copy(row_scores.begin(), row_scores.end(), scores.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

}  // namespace ag::test
