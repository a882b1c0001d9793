// SPDX-License-Identifier: Apache-2.0
// Scores in double from the tensors as given: the same bits in every kernel, so that a row's reference, taken from one
// of them, cancels in another also where the scores are 10^30.
//
// The order of a dot product is fixed: kScorePartials chains of fused products, runs of kScoreRun neighbours to each in
// turn, added as a tree. The chains are one thread's registers (tile) or neighbouring lanes (pair), which load a run at
// once.
#pragma once

#include "../device/warp.cuh"
#include "mask.cuh"
#include "work.hpp"

namespace ag::cuda {

inline constexpr int kScorePartials = 8;
inline constexpr int kScoreRun = 4;

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

// A run of a row that begins at `at` elements, as double.
template <DType kType>
__device__ __forceinline__ void load_run(const void* data, std::int64_t at, double (&x)[kScoreRun]) {
  if constexpr (kType == DType::kF64) {
    const auto* const from = static_cast<const double*>(data) + at;
#pragma unroll
    for (int e = 0; e < kScoreRun; ++e) x[e] = from[e];
  } else if constexpr (kType == DType::kF32) {
    const float4 four = *reinterpret_cast<const float4*>(static_cast<const float*>(data) + at);
    x[0] = static_cast<double>(four.x), x[1] = static_cast<double>(four.y);
    x[2] = static_cast<double>(four.z), x[3] = static_cast<double>(four.w);
  } else {
    const uint2 words = *reinterpret_cast<const uint2*>(static_cast<const std::uint16_t*>(data) + at);
    const auto value = [](std::uint32_t bits) {
      return static_cast<double>(kType == DType::kF16 ? f16_value(static_cast<std::uint16_t>(bits))
                                                      : bf16_value(static_cast<std::uint16_t>(bits)));
    };
    x[0] = value(words.x & 0xFFFFu), x[1] = value(words.x >> 16);
    x[2] = value(words.y & 0xFFFFu), x[3] = value(words.y >> 16);
  }
}

// Whether load_run may take runs of both rows: neighbours in memory, at whole multiples of a run's bytes.
template <DType kType>
__device__ __forceinline__ bool has_runs(const Chunk& chunk, std::int64_t q, std::int64_t k) {
  constexpr std::uint64_t kBytes = kScoreRun * kSizeOf<kType>;
  const auto place = [](const AnyTensor& rows, std::int64_t first) {
    return reinterpret_cast<std::uint64_t>(rows.data) + static_cast<std::uint64_t>(first) * kSizeOf<kType>;
  };
  return chunk.q.stride_column == 1 && chunk.k.stride_column == 1 &&
         (kType == DType::kF64 || (place(chunk.q, q) | place(chunk.k, k)) % kBytes == 0);
}

// Dot products of query i of a head (both global) with kCount keys. Each group of kScorePartials lanes brings its own
// query and keys; a negative key's product means nothing. All lanes of the warp take part.
template <DType kType, int kCount>
__device__ __forceinline__ void pair_dots(const Chunk& chunk, std::int64_t head, std::int64_t i,
                                          const std::int64_t (&keys)[kCount], double (&dots)[kCount]) {
  const std::int64_t dim = chunk.head_dim;
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x % kScorePartials) * kScoreRun;
  constexpr std::int64_t kStep = kScorePartials * kScoreRun;
  bool wanted = false, runs = true;
  std::int64_t k[kCount];
  const std::int64_t q = element_offset(chunk.q, head, i, 0);
#pragma unroll
  for (int n = 0; n < kCount; ++n) {
    dots[n] = 0;
    k[n] = element_offset(chunk.k, 0, keys[n] > 0 ? keys[n] : 0, 0);
    wanted = wanted || keys[n] >= 0;
    runs = runs && has_runs<kType>(chunk, q, k[n]);
  }
  if (wanted) {
    std::int64_t d = first;
    if (runs) {
      for (; d + kScoreRun <= dim; d += kStep) {
        double x[kScoreRun], y[kCount][kScoreRun];
        load_run<kType>(chunk.q.data, q + d, x);
#pragma unroll
        for (int n = 0; n < kCount; ++n) load_run<kType>(chunk.k.data, k[n] + d, y[n]);
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
#pragma unroll
          for (int e = 0; e < kScoreRun; ++e) dots[n] = fma(x[e], y[n][e], dots[n]);
        }
      }
    }
    for (; d < dim; d += kStep) {
      const std::int64_t end = d + kScoreRun < dim ? d + kScoreRun : dim;
      for (std::int64_t e = d; e < end; ++e) {
        const double x = load_double(static_cast<std::int32_t>(kType), chunk.q.data, q + e * chunk.q.stride_column);
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
          dots[n] =
              fma(x, load_double(static_cast<std::int32_t>(kType), chunk.k.data, k[n] + e * chunk.k.stride_column),
                  dots[n]);
        }
      }
    }
  }
#pragma unroll
  for (int step = kScorePartials / 2; step > 0; step /= 2) {
#pragma unroll
    for (int n = 0; n < kCount; ++n) dots[n] += __shfl_xor_sync(kAllLanes, dots[n], step);
  }
}

// The score of query i of a head (both global) and an allowed key: `bias` is pair_bias of the two. As pair_dots.
template <DType kType>
__device__ __forceinline__ double pair_score(const Chunk& chunk, std::int64_t head, std::int64_t i, std::int64_t key,
                                             double bias) {
  const std::int64_t keys[1] = {key};
  double dot[1];
  pair_dots<kType>(chunk, head, i, keys, dot);
  return score_of(chunk, dot[0], bias);
}

// Tiles: kTileRows queries, a warp each, against kWindow keys. Blocks of kTileThreads.
inline constexpr int kTileRows = 8;
inline constexpr int kTileThreads = 32 * kTileRows;
inline constexpr int kTileDims = 32;
static_assert(kTileDims % (kScorePartials * kScoreRun) == 0);
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
      Real& partial = partials[d / kScoreRun % kScorePartials];
      partial = fma(s_tile.queries[warp][d0 + d], s_tile.keys[slot][d], partial);
    }
    __syncthreads();
  }
  return add_partials(partials);
}

}  // namespace ag::cuda
