// SPDX-License-Identifier: Apache-2.0
// Softmax statistics, cut, candidates and dense weights of rows of raw scores.
#include <cmath>

#include "../device/launch.hpp"
#include "../device/ptx.cuh"
#include "../stages/row_team.cuh"
#include "kernels.hpp"
#include "score_rule.cuh"

namespace ag::cuda {
namespace {

// What one thread, then a warp, then a team knows of a row. Base 2. The reference is an integer, so that rescaling is
// exact; sums are in double, so that the length of the row does not matter.
struct Partial {
  float reference = -INFINITY;
  float maximum = -INFINITY;
  std::int32_t max_column = -1;
  double sum = 0;
  double weighted = 0;  // sum of 2^(x - reference) (x - reference)
};

// 2^n for n in [-1022, 1023].
__device__ __forceinline__ double power_of_two(int n) {
  return __longlong_as_double(static_cast<long long>(n + 1023) << 52);
}

__device__ __forceinline__ void set_reference(Partial& p, float reference) {
  if (p.reference == reference || p.maximum == -INFINITY) {
    p.reference = reference;
    return;
  }
  const float step = fmaxf(p.reference - reference, -1023.0f);  // an integer; below that nothing is left
  const double scale = step > -1023.0f ? power_of_two(static_cast<int>(step)) : 0.0;
  p.weighted = scale * (p.weighted + static_cast<double>(step) * p.sum);
  p.sum *= scale;
  p.reference = reference;
}

// Four scores side by side, the first in column `column`; -inf is masked.
__device__ __forceinline__ void add_scores(Partial& p, const float (&x)[4], std::uint32_t column, bool weighted) {
  const float top = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
  if (top > p.maximum) {
    const float reference = ceilf(top);
    if (reference > p.reference) set_reference(p, reference);
    p.maximum = top;
    const int place = x[0] == top ? 0 : x[1] == top ? 1 : x[2] == top ? 2 : 3;
    p.max_column = static_cast<std::int32_t>(column) + place;
  }
  if (p.maximum == -INFINITY) return;  // -inf - -inf would be NaN
  float e[4], w[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    e[n] = fmaxf(x[n] - p.reference, -256.0f);  // finite: 0 times it is 0
    w[n] = exp2_approx(e[n]);
  }
  p.sum += static_cast<double>((w[0] + w[1]) + (w[2] + w[3]));
  if (weighted) p.weighted += static_cast<double>((w[0] * e[0] + w[1] * e[1]) + (w[2] * e[2] + w[3] * e[3]));
}

// a and b of different columns; the smallest column wins a tie.
__device__ __forceinline__ void merge(Partial& a, Partial b) {
  const float reference = fmaxf(a.reference, b.reference);
  if (reference == -INFINITY) return;
  set_reference(a, reference);
  set_reference(b, reference);
  a.sum += b.sum;
  a.weighted += b.weighted;
  if (b.maximum > a.maximum || (b.maximum == a.maximum && b.max_column < a.max_column)) {
    a.maximum = b.maximum;
    a.max_column = b.max_column;
  }
}

__device__ __forceinline__ Partial shuffle_xor(const Partial& p, int step) {
  Partial other;
  other.reference = __shfl_xor_sync(kAllLanes, p.reference, step);
  other.maximum = __shfl_xor_sync(kAllLanes, p.maximum, step);
  other.max_column = __shfl_xor_sync(kAllLanes, p.max_column, step);
  other.sum = __shfl_xor_sync(kAllLanes, p.sum, step);
  other.weighted = __shfl_xor_sync(kAllLanes, p.weighted, step);
  return other;
}

// log2(2^a + 2^b)
__device__ __forceinline__ float log2_add(float a, float b) {
  const float high = fmaxf(a, b);
  if (isinf(high)) return high;
  return high + log2f(exp2f(a - high) + exp2f(b - high));
}

// A row's columns, and the scores there. kGeneral: with a softcap, a mask tensor, slopes or bad keys.
template <bool kGeneral>
struct RowScores {
  const SoftmaxRows& work;
  const Chunk& chunk;
  const FloatScoreRule& rule;
  const float* raw;
  std::int64_t head, query;
  std::uint32_t begin, end;  // columns that causal, window and length leave: keys fit 31 bits

  // The four scores from `column` on, which is a multiple of 4. Most lie inside the range as a whole.
  __device__ __forceinline__ void load(std::uint32_t column, float (&x)[4]) const {
    if (column >= begin && column + 4 <= end) {
      const float4 four = *reinterpret_cast<const float4*>(raw + column);
      x[0] = score(four.x, column), x[1] = score(four.y, column + 1);
      x[2] = score(four.z, column + 2), x[3] = score(four.w, column + 3);
      return;
    }
#pragma unroll
    for (std::uint32_t n = 0; n < 4; ++n) {
      x[n] = column + n >= begin && column + n < end ? score(raw[column + n], column + n) : -INFINITY;
    }
  }

 private:
  __device__ __forceinline__ float score(float product, std::uint32_t column) const {
    const float x = score_log2<kGeneral>(rule, product);
    if constexpr (!kGeneral) return x;
    const double bias = pair_bias(chunk.mask, head, query, work.scores.key_begin + column);
    // Not added when it masks: the product of a masked key may be NaN.
    return isinf(bias) ? static_cast<float>(bias) : x + bias_log2(bias);
  }
};

// Bits of the warp's 128 columns: each lane brings those of its four, lanes 0, 8, 16 and 24 write a word.
__device__ __forceinline__ void write_bits(std::uint32_t* words, int lane, std::uint32_t four) {
  std::uint32_t word = four << (4 * (lane % 8));
#pragma unroll
  for (int step = 1; step < 8; step *= 2) word |= __shfl_xor_sync(kAllLanes, word, step);
  if (lane % 8 == 0) words[lane / 8] = word;
}

// A score, finite unless all are needed, that at least top_k of a row's scores reach and, unless they lie very close
// together, few more: steps down from the maximum, then halves the last step.
template <class CountFrom>
__device__ __forceinline__ float top_k_bound(float maximum, std::int64_t top_k, CountFrom&& count_from) {
  if (maximum == -INFINITY) return -INFINITY;
  float high = maximum, step = 1, low = maximum - step;
  std::int64_t count = count_from(low);
#pragma unroll 1
  for (; count < top_k; count = count_from(low)) {
    if (step > 1e6f) return -INFINITY;
    high = low;
    step *= 4;
    low = maximum - step;
  }
#pragma unroll 1
  for (int n = 0; n < 12 && count > top_k + top_k / 8 + 4; ++n) {
    const float middle = low + (high - low) / 2;
    const std::int64_t reached = count_from(middle);
    if (reached >= top_k) {
      low = middle;
      count = reached;
    } else {
      high = middle;
    }
  }
  return low;
}

// kCached tiles of the row stay in registers between its two passes: those of a plain row that has no more. A longer
// one is read twice, by as many warps as a multiprocessor holds.
template <int kWarps, bool kGeneral, bool kShort>
__global__ void __launch_bounds__(RowTeam<kWarps>::kBlockThreads, kShort || kGeneral ? 1 : 3)
    softmax_rows_kernel(SoftmaxRows work, FloatScoreRule rule) {
  static_assert(!(kGeneral && kShort));
  constexpr int kCached = kShort ? 8 : 0;
  constexpr std::uint32_t kTile = kWarps * 128;
  constexpr std::uint32_t kAhead = kGeneral || kShort ? 1 : 4;  // tiles that are on their way while others are used
  ATTNGRAPH_SHARED(s_partials, Partial[kWarps]);
  ATTNGRAPH_SHARED(s_counts, std::int32_t[3][kWarps]);
  ATTNGRAPH_SHARED(s_first, std::uint32_t[kWarps]);
  RowTeam<kWarps> team;
  std::int32_t number = 0;
  if (!team.take_row(work.batch, number)) return;  // a whole team
  const Chunk& chunk = work.batch.chunks[number];
  ChunkFacts& facts = work.batch.facts[number];
  const std::int64_t row = team.row, local = row - chunk.first_row;
  if (facts.judged_double != 0) return;
  const std::int64_t g = local / chunk.queries;
  const std::int64_t query = chunk.query_begin + (local - g * chunk.queries);
  const double given = chunk.given_logsumexp != nullptr ? chunk.given_logsumexp[local] : 0.0;
  const double norm = chunk.norm_of(local);
  const bool unusable = isinf(given) || !(norm == norm);

  DeviceKeyRange keys = key_range(chunk.mask, query);
  if (unusable) keys.end = keys.begin;
  const RowScores<kGeneral> scores{work,
                                   chunk,
                                   rule,
                                   work.scores.data + row * work.scores.pitch,
                                   chunk.head_ids[g],
                                   query,
                                   static_cast<std::uint32_t>(keys.begin - work.scores.key_begin),
                                   static_cast<std::uint32_t>(keys.end - work.scores.key_begin)};
  const bool any = scores.begin < scores.end;
  const std::uint32_t first_tile = any ? scores.begin / kTile : 0;
  const std::uint32_t end_tile = any ? (scores.end + kTile - 1) / kTile : 0;
  const auto place = static_cast<std::uint32_t>(team.warp * 128 + team.lane * 4);  // of the thread in a tile

  // f(tile, the thread's four scores in it) for the tiles that no register keeps.
  const auto read_tiles = [&](auto&& f) {
#pragma unroll 1
    for (std::uint32_t tile = first_tile + kCached; tile < end_tile; tile += kAhead) {
      float x[kAhead][4];
#pragma unroll
      for (std::uint32_t n = 0; n < kAhead; ++n) {
        if (tile + n < end_tile) scores.load((tile + n) * kTile + place, x[n]);
      }
#pragma unroll
      for (std::uint32_t n = 0; n < kAhead; ++n) {
        if (tile + n < end_tile) f(tile + n, x[n]);
      }
    }
  };

  Partial p;
  const bool weighted = work.states.weighted != nullptr;
  float cache[kCached > 0 ? kCached : 1][4];
#pragma unroll
  for (int n = 0; n < kCached; ++n) {
    const std::uint32_t tile = first_tile + static_cast<std::uint32_t>(n), column = tile * kTile + place;
    if (tile >= end_tile) continue;
    scores.load(column, cache[n]);
    add_scores(p, cache[n], column, weighted);
  }
  read_tiles([&](std::uint32_t tile, const float(&x)[4]) { add_scores(p, x, tile * kTile + place, weighted); });
#pragma unroll
  for (int step = 16; step > 0; step /= 2) merge(p, shuffle_xor(p, step));
  if constexpr (kWarps > 1) {
    if (team.lane == 0) s_partials[team.warp] = p;
    __syncthreads();
    p = s_partials[0];
#pragma unroll 1
    for (int w = 1; w < kWarps; ++w) merge(p, s_partials[w]);
  }

  // f(tile, the thread's four scores in it) for every tile of the row, once more.
  const auto for_each_tile = [&](auto&& f) {
#pragma unroll
    for (int n = 0; n < kCached; ++n) {
      const std::uint32_t tile = first_tile + static_cast<std::uint32_t>(n);
      if (tile < end_tile) f(tile, cache[n]);
    }
    read_tiles(f);
  };

  // The denominator is 2^(reference + rest).
  float rest = 0;
  if (chunk.given_logsumexp != nullptr) {
    rest = static_cast<float>(given * kLog2E - static_cast<double>(p.reference));
  } else {
    rest = log2f(static_cast<float>(p.sum));
    if (chunk.sink != nullptr) {
      rest = log2_add(rest, static_cast<float>(chunk.sink[g] * kLog2E - static_cast<double>(p.reference)));
    }
  }
  // The band covers what the scores and the sum may be off; the rest is for this cut itself, rounded to float.
  const double maximum = kLn2 * static_cast<double>(p.maximum);
  const bool has_keys = p.max_column >= 0;
  const double bias_error = has_keys ? facts.band.bias_error(maximum) : 0.0;
  if (has_keys && facts.band.too_wide(maximum) && team.thread() == 0) atomicExch(&facts.found_double, 1);
  const float band = unusable ? 0.0f : static_cast<float>(facts.band.band(norm) + 2 * bias_error);
  const float room = 1.45f * band + 1e-5f;
  const auto lowered = [room](float bound, float magnitude) { return bound - room - 4 * 0x1p-23f * magnitude; };
  float cut = -INFINITY;
  if (chunk.log_threshold > -static_cast<double>(INFINITY)) {
    const float log2_threshold = static_cast<float>(chunk.log_threshold * kLog2E);
    cut = lowered(p.reference + (rest + log2_threshold), fabsf(p.reference) + fabsf(rest) + fabsf(log2_threshold));
  }
  if (work.top_k > 0) {
    int turn = 0;
    const auto count_from = [&](float bound) {
      std::int32_t n = 0;
      for_each_tile([&](std::uint32_t, const float(&x)[4]) {
        for (int c = 0; c < 4; ++c) n += x[c] >= bound;
      });
      turn = 1 - turn;
      return team.sum(n, s_counts[turn]);
    };
    const float bound = top_k_bound(p.maximum, work.top_k, count_from);
    cut = fmaxf(cut, lowered(bound, fabsf(bound)));
  }

  std::uint32_t* const words = work.candidates.bits + row * work.candidates.words;
  float* const dense = work.dense.data != nullptr ? work.dense.data + row * chunk.keys : nullptr;
  const auto width = static_cast<std::uint32_t>(work.scores.width);
  std::int32_t count = 0;
  // The first column that may hold the largest score.
  const float near_maximum = has_keys ? lowered(p.maximum, fabsf(p.maximum)) : INFINITY;
  std::uint32_t first_near = 0xFFFFFFFFu;
  for_each_tile([&](std::uint32_t tile, const float(&x)[4]) {
    std::uint32_t four = 0;
#pragma unroll
    for (int n = 0; n < 4; ++n) four |= static_cast<std::uint32_t>(x[n] > -INFINITY && x[n] >= cut) << n;
    count += __popc(four);
#pragma unroll
    for (int n = 3; n >= 0; --n) {
      const std::uint32_t own = tile * kTile + place + static_cast<std::uint32_t>(n);
      if (x[n] >= near_maximum && own < first_near) first_near = own;
    }
    const std::uint32_t column = tile * kTile + static_cast<std::uint32_t>(team.warp) * 128;
    if (column < width) write_bits(words + column / 32, team.lane, four);
    if (dense == nullptr) return;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const std::int64_t key = work.scores.key_begin + tile * kTile + place + n;
      if (key < keys.begin || key >= keys.end) continue;
      dense[key] = x[n] > -INFINITY ? exp2f((x[n] - p.reference) - rest) : 0.0f;
    }
  });

  // Nothing was written outside of these tiles.
  constexpr std::int64_t kTileWords = kTile / 32;
  for (std::int64_t w = team.thread(); w < work.candidates.words; w += kWarps * 32) {
    if (w < first_tile * kTileWords || w >= end_tile * kTileWords) words[w] = 0;
  }
  if (dense != nullptr) {
    for (std::int64_t key = team.thread(); key < chunk.keys; key += kWarps * 32) {
      if (key < keys.begin || key >= keys.end) dense[key] = 0;
    }
  }
  count = team.sum(count, s_counts[2]);
  first_near = team.least(first_near, s_first);
  if constexpr (kWarps == 1) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  if (team.thread() != 0) return;
  if (first_near != 0xFFFFFFFFu) {
    const std::uint32_t bit = 1u << first_near % 32, word = words[first_near / 32];
    if ((word & bit) == 0) {
      words[first_near / 32] = word | bit;
      ++count;
    }
  }
  work.count[row] = count;
  const bool empty = p.max_column < 0;
  work.states.reference[row] = empty ? 0.0 : kLn2 * static_cast<double>(p.reference);
  work.states.sum[row] = empty ? 0.0 : p.sum;
  work.states.max_key[row] = empty ? -1 : static_cast<std::int32_t>(work.scores.key_begin + p.max_column);
  if (weighted) work.states.weighted[row] = kLn2 * p.weighted;
}

template <int kWarps, bool kShort>
cudaError_t launch(const SoftmaxRows& work, cudaStream_t stream) {
  using Team = RowTeam<kWarps>;
  const std::int64_t rows = work.batch.count * work.batch.most_rows;
  const cudaLaunchConfig_t config = launch_config(blocks_for(rows, Team::kRowsPerBlock), Team::kBlockThreads, stream);
  const FloatScoreRule rule = in_float({work.scale, work.softcap});
  return work.general ? cudaLaunchKernelEx(&config, softmax_rows_kernel<kWarps, true, false>, work, rule)
                      : cudaLaunchKernelEx(&config, softmax_rows_kernel<kWarps, false, kShort>, work, rule);
}

}  // namespace

cudaError_t launch_softmax_rows(const SoftmaxRows& work, cudaStream_t stream) {
  // Columns are counted in 32 bits, and a tile may end beyond the last one.
  if (work.scores.width > std::int64_t{1} << 31) return cudaErrorInvalidValue;
  if (work.candidates.words != bit_words(work.scores.width) || work.scores.pitch % 4 != 0) return cudaErrorInvalidValue;
  if (work.batch.rows == 0) return cudaSuccess;
  if (work.scores.width <= 1024) return launch<1, true>(work, stream);  // what a warp holds in registers
  if (work.scores.width <= 8192) return launch<8, true>(work, stream);
  return launch<8, false>(work, stream);
}

}  // namespace ag::cuda
