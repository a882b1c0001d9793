// SPDX-License-Identifier: Apache-2.0
// Lengths of rows to decisions: which chunks need double, how their operands are scaled, what is not finite.
#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr double kFloatLimit = 1e30;           // beyond it a float could
constexpr double kSmallestProduct = 0x1p-126;  // that a float holds at full precision
constexpr double kLargestLoss = 1e-8;          // nats by which what is lost below it may move a score
constexpr unsigned long long kNobody = ~0ull;

__device__ __forceinline__ double power_of_two(int n) {  // n in [-1022, 1023]
  return __longlong_as_double(static_cast<long long>(n + 1023) << 52);
}

// The largest e, of those that a double's power of two can have, with norm * 2^e < 2^10: no value of a row of that
// length is larger.
__device__ __forceinline__ int split_exponent(double norm) {
  if (!(norm > 0)) return 0;
  const int exponent = 9 - (static_cast<int>(__double_as_longlong(norm) >> 52) - 1023);
  return exponent < -1022 ? -1022 : exponent > 1023 ? 1023 : exponent;
}

// What a thread, then the block, has seen of some rows.
struct Seen {
  double largest = 0;
  unsigned long long bad = 0, first_bad = kNobody;

  __device__ void look(double norm, unsigned long long place, bool counts) {
    if (norm == norm) {
      largest = norm > largest ? norm : largest;
    } else if (counts) {
      ++bad;
      first_bad = place < first_bad ? place : first_bad;
    }
  }
  __device__ void join(const Seen& other) {
    largest = other.largest > largest ? other.largest : largest;
    bad += other.bad;
    first_bad = other.first_bad < first_bad ? other.first_bad : first_bad;
  }
};

__device__ __forceinline__ Seen block_join(Seen seen, Seen (&s_seen)[kWarps]) {
  for (int step = 16; step > 0; step /= 2) {
    Seen other;
    other.largest = __shfl_xor_sync(kAllLanes, seen.largest, step);
    other.bad = __shfl_xor_sync(kAllLanes, seen.bad, step);
    other.first_bad = __shfl_xor_sync(kAllLanes, seen.first_bad, step);
    seen.join(other);
  }
  if (threadIdx.x % 32 == 0) s_seen[threadIdx.x / 32] = seen;
  __syncthreads();
  seen = s_seen[0];
  for (int w = 1; w < kWarps; ++w) seen.join(s_seen[w]);
  __syncthreads();  // s_seen is free again
  return seen;
}

__device__ __forceinline__ ScoreUnits units_of(const JudgeRules& rules, double query_norm, double key_norm) {
  ScoreUnits units;
  double factor = fabs(rules.scale);
  if (rules.scale < 0) units.query_xor = 0x80008000u;  // the sign bits of two f16 or bf16
  if (factor == 0) {
    units.query_and = 0;  // products of 0 are scores of 0, whatever the factor
    factor = 1;
  }
  if (rules.splits_f32) {
    units.q_exponent = split_exponent(query_norm);
    units.k_exponent = split_exponent(key_norm);
    factor = factor * power_of_two(-units.q_exponent > 1023 ? 1023 : -units.q_exponent) *
             power_of_two(-units.k_exponent > 1023 ? 1023 : -units.k_exponent);
  }
  // Factors this far from 1 belong to products so small, or so large, that their band sends them to rows_f64; the
  // limits only keep the kernels' quotients finite.
  const double unit = ScoreRule{factor, rules.softcap}.unit();
  units.unit = static_cast<float>(fmin(fmax(unit, 0x1p-100), 0x1p100));
  units.natural_unit = rules.base2 ? kLn2 : factor;
  return units;
}

// A block a chunk.
__global__ void __launch_bounds__(kThreads) judge_chunks_kernel(Batch batch, JudgeRules rules, std::uint8_t* bad_keys) {
  ATTNGRAPH_SHARED(s_seen, Seen[kWarps]);
  Chunk& chunk = batch.chunks[blockIdx.x];
  const std::int64_t all = chunk.all_queries;
  Seen queries, keys;
  const std::int64_t begin = chunk.query_begin, end = chunk.query_begin + chunk.queries, heads = chunk.heads;
  const double* const q_norms = chunk.q_norms;
  const double* const k_norms = chunk.k_norms;
  for (std::int64_t g = 0; g < heads; ++g) {
#pragma unroll 4
    for (std::int64_t i = threadIdx.x; i < all; i += kThreads)
      queries.look(q_norms[g * all + i], static_cast<unsigned long long>(g * all + i), i >= begin && i < end);
  }
  const std::int64_t key_count = chunk.mask.key_count;
#pragma unroll 4
  for (std::int64_t j = threadIdx.x; j < key_count; j += kThreads)
    keys.look(k_norms[j], static_cast<unsigned long long>(j), true);
  queries = block_join(queries, s_seen);
  keys = block_join(keys, s_seen);
  std::uint8_t* const flags = bad_keys + blockIdx.x * batch.keys;
  if (keys.bad > 0) {
    for (std::int64_t j = threadIdx.x; j < batch.keys; j += kThreads) {
      const double norm = j < chunk.mask.key_count ? chunk.k_norms[j] : 0.0;
      flags[j] = norm == norm ? 0 : 1;
    }
  }
  if (threadIdx.x != 0) return;
  chunk.mask.bad_keys = keys.bad > 0 ? flags : nullptr;
  ChunkFacts facts;
  facts.query_norm = queries.largest;
  facts.key_norm = keys.largest;
  facts.bad_queries = static_cast<std::int64_t>(queries.bad);
  facts.bad_keys = static_cast<std::int64_t>(keys.bad);
  if (queries.bad > 0) facts.first_bad_query = static_cast<std::int64_t>(queries.first_bad);
  if (keys.bad > 0) facts.first_bad_key = static_cast<std::int64_t>(keys.first_bad);
  facts.band = rules.band.with_key_norm(keys.largest);
  facts.band_f64 = rules.band_f64.with_key_norm(keys.largest);
  facts.units = units_of(rules, queries.largest, keys.largest);

  const double product = queries.largest * keys.largest;
  const double factor = fabs(ScoreRule{rules.scale, rules.softcap}.unit());
  const double most = fmax(fmax(queries.largest, keys.largest), fmax(product, product * factor));
  const double loss = static_cast<double>(batch.head_dim) * kSmallestProduct * fabs(rules.scale);
  const bool fits = most <= kFloatLimit && loss <= kLargestLoss && facts.band.band(queries.largest) <= kWidestBand;
  facts.judged_double = rules.always_double || !fits ? 1 : 0;
  batch.facts[blockIdx.x] = facts;
}

}  // namespace

cudaError_t launch_judge_chunks(const Batch& batch, const JudgeRules& rules, std::uint8_t* d_bad_keys,
                                cudaStream_t stream) {
  if (batch.count == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(batch.count, kThreads, stream);
  return cudaLaunchKernelEx(&config, judge_chunks_kernel, batch, rules, d_bad_keys);
}

}  // namespace ag::cuda
