// SPDX-License-Identifier: Apache-2.0
// Scores in double from the tensors as given: the same bits in every kernel, so that a row's reference, taken from one
// of them, cancels in another also where the scores are 10^30.
//
// The order of a dot product is fixed: kScorePartials chains of fused products, product d in chain d % kScorePartials,
// added as a tree. The chains are one thread's registers (tile) or neighbouring lanes (pair).
#pragma once

#include "../device/warp.cuh"
#include "mask.cuh"
#include "work.hpp"

namespace ag::cuda {

inline constexpr int kScorePartials = 8;

template <class Real>
__device__ __forceinline__ Real add_partials(const Real (&p)[kScorePartials]) {
  return ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
}

// ln(e^a + e^b)
__device__ __forceinline__ double log_add(double a, double b) {
  const double high = a > b ? a : b, low = a > b ? b : a;
  return fabs(high) == infinity_f64() ? high : high + log1p(exp(low - high));
}

// A dot product's score.
__device__ __forceinline__ double score_of(const Chunk& chunk, double dot, double bias) {
  return chunk.score_rule().score(dot, bias);
}

// The score of query i of a head (both global) and an allowed key: `bias` is pair_bias of the two. Each group of
// kScorePartials lanes brings its own key, or a negative one, for which the result means nothing; all lanes of the warp
// take part.
template <DType kType>
__device__ __forceinline__ double pair_score(const Chunk& chunk, std::int64_t head, std::int64_t i, std::int64_t key,
                                             double bias) {
  double sum = 0;
  if (key >= 0) {
    const std::int64_t q = element_offset(chunk.q, head, i, 0), k = element_offset(chunk.k, 0, key, 0);
    for (std::int64_t d = threadIdx.x % kScorePartials; d < chunk.head_dim; d += kScorePartials) {
      sum = fma(load_double(static_cast<std::int32_t>(kType), chunk.q.data, q + d * chunk.q.stride_column),
                load_double(static_cast<std::int32_t>(kType), chunk.k.data, k + d * chunk.k.stride_column), sum);
    }
  }
  for (int step = kScorePartials / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  return score_of(chunk, sum, bias);
}

// Tiles: kTileRows queries, a warp each, against kWindow keys. Blocks of kTileThreads.
inline constexpr int kTileRows = 8;
inline constexpr int kTileThreads = 32 * kTileRows;
inline constexpr int kTileDims = 32;
inline constexpr int kMaxDims = 512;

template <class Real, int kWindow>
struct TileMemory {
  Real queries[kTileRows][kMaxDims];
  Real keys[kWindow][kTileDims + 1];  // of the dimensions at hand; padded against bank conflicts
};

// Queries [first, first + kTileRows) of a head that are below `end`; the others are zeros. Ends with a barrier.
template <DType kType, class Real, int kWindow>
__device__ __forceinline__ void load_tile_queries(const Chunk& chunk, std::int64_t head, std::int64_t first,
                                                  std::int64_t end, TileMemory<Real, kWindow>& s_tile) {
  const int padded = static_cast<int>((chunk.head_dim + kTileDims - 1) / kTileDims * kTileDims);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t i = first + warp;
  for (int d = static_cast<int>(threadIdx.x) % 32; d < padded; d += 32) {
    const bool wanted = i < end && d < chunk.head_dim;
    s_tile.queries[warp][d] = wanted ? static_cast<Real>(load_double(static_cast<std::int32_t>(kType), chunk.q.data,
                                                                     element_offset(chunk.q, head, i, d)))
                                     : Real{0};
  }
  __syncthreads();
}

// The dot product of this warp's query with key first_key + slot. Keys of the window outside [key_begin, key_end) are
// taken as zeros, their memory is not read. All threads of the block take part; barriers at both ends of s_tile.keys.
template <DType kType, class Real, int kWindow>
__device__ __forceinline__ Real tile_dot(const Chunk& chunk, std::int64_t first_key, std::int64_t key_begin,
                                         std::int64_t key_end, int slot, TileMemory<Real, kWindow>& s_tile) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  Real partials[kScorePartials] = {};
  for (int d0 = 0; d0 < chunk.head_dim; d0 += kTileDims) {
    for (int n = static_cast<int>(threadIdx.x); n < kWindow * kTileDims; n += kTileThreads) {
      const std::int64_t key = first_key + n / kTileDims;
      const std::int64_t d = d0 + n % kTileDims;
      const bool wanted = key >= key_begin && key < key_end && d < chunk.head_dim;
      s_tile.keys[n / kTileDims][n % kTileDims] =
          wanted ? static_cast<Real>(
                       load_double(static_cast<std::int32_t>(kType), chunk.k.data, element_offset(chunk.k, 0, key, d)))
                 : Real{0};
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kTileDims; ++d) {
      Real& partial = partials[d % kScorePartials];
      partial = fma(s_tile.queries[warp][d0 + d], s_tile.keys[slot][d], partial);
    }
    __syncthreads();
  }
  return add_partials(partials);
}

}  // namespace ag::cuda
