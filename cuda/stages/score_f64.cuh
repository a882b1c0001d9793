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

// A run of a row as it lies in memory, and its values in double.
template <DType kType>
struct Run;
template <>
struct Run<DType::kF64> {
  double x[kScoreRun];
  __device__ __forceinline__ void load(const double* from) {
#pragma unroll
    for (int e = 0; e < kScoreRun; ++e) x[e] = from[e];
  }
  __device__ __forceinline__ double value(int e) const { return x[e]; }
};
template <>
struct Run<DType::kF32> {
  float4 four;
  __device__ __forceinline__ void load(const float* from) { four = *reinterpret_cast<const float4*>(from); }
  __device__ __forceinline__ double value(int e) const {
    return static_cast<double>(e == 0 ? four.x : e == 1 ? four.y : e == 2 ? four.z : four.w);
  }
};
template <bool kBf16>
struct Run16 {
  uint2 words;
  __device__ __forceinline__ void load(const std::uint16_t* from) { words = *reinterpret_cast<const uint2*>(from); }
  __device__ __forceinline__ double value(int e) const {
    const std::uint32_t word = e < 2 ? words.x : words.y;
    const auto bits = static_cast<std::uint16_t>(e % 2 == 0 ? word & 0xFFFFu : word >> 16);
    return static_cast<double>(kBf16 ? bf16_value(bits) : f16_value(bits));
  }
};
template <>
struct Run<DType::kF16> : Run16<false> {};
template <>
struct Run<DType::kBF16> : Run16<true> {};

template <DType kType>
struct ElementOf {
  using type = std::uint16_t;
};
template <>
struct ElementOf<DType::kF32> {
  using type = float;
};
template <>
struct ElementOf<DType::kF64> {
  using type = double;
};

// Dot products of a query with keys of its head, by the kScorePartials lanes of a group. All lanes of the warp take
// part in every call; groups have queries of their own, and one that wants nothing brings negative keys.
template <DType kType>
class PairDots {
  using Element = typename ElementOf<kType>::type;

 public:
  // Of query i of a head (both global).
  __device__ __forceinline__ PairDots(const Chunk& chunk, std::int64_t head, std::int64_t i)
      : q_(static_cast<const Element*>(chunk.q.data) + element_offset(chunk.q, head, i, 0)), chunk_(chunk) {
    // Runs can be loaded at once where they are neighbours in memory, at whole multiples of their bytes.
    constexpr std::uint64_t kBytes = kType == DType::kF64 ? 1 : kScoreRun * kSizeOf<kType>;
    const std::uint64_t misplaced = reinterpret_cast<std::uint64_t>(q_) |
                                    reinterpret_cast<std::uint64_t>(chunk.k.data) |
                                    static_cast<std::uint64_t>(chunk.k.stride_row) * kSizeOf<kType>;
    in_runs_ = chunk.q.stride_column == 1 && chunk.k.stride_column == 1 && misplaced % kBytes == 0;
  }

  // A negative key's product means nothing.
  template <int kCount>
  __device__ __forceinline__ void operator()(const std::int32_t (&keys)[kCount], double (&dots)[kCount]) const {
    const Element* k[kCount];
    bool wanted = false;
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      dots[n] = 0;
      wanted = wanted || keys[n] >= 0;
      k[n] = static_cast<const Element*>(chunk_.k.data) + (keys[n] > 0 ? keys[n] : 0) * chunk_.k.stride_row;
    }
    if (wanted) add(k, dots);
#pragma unroll
    for (int step = kScorePartials / 2; step > 0; step /= 2) {
#pragma unroll
      for (int n = 0; n < kCount; ++n) dots[n] += __shfl_xor_sync(kAllLanes, dots[n], step);
    }
  }

 private:
  template <int kCount>
  __device__ __forceinline__ void add(const Element* const (&k)[kCount], double (&dots)[kCount]) const {
    constexpr int kStep = kScorePartials * kScoreRun;
    constexpr int kAhead = kSizeOf<kType> == 2 ? 2 : 1;  // runs of a row that are on their way before the first is used
    const int dim = static_cast<int>(chunk_.head_dim);
    int d = static_cast<int>(threadIdx.x) % kScorePartials * kScoreRun;
    if (in_runs_) {
#pragma unroll 1
      for (; d + (kAhead - 1) * kStep + kScoreRun <= dim; d += kAhead * kStep) {
        Run<kType> x[kAhead], y[kAhead][kCount];
#pragma unroll
        for (int r = 0; r < kAhead; ++r) {
          x[r].load(q_ + d + r * kStep);
#pragma unroll
          for (int n = 0; n < kCount; ++n) y[r][n].load(k[n] + d + r * kStep);
        }
#pragma unroll
        for (int r = 0; r < kAhead; ++r) multiply(x[r], y[r], dots);
      }
      if (kAhead > 1 && d + kScoreRun <= dim) {
        Run<kType> x, y[kCount];
        x.load(q_ + d);
#pragma unroll
        for (int n = 0; n < kCount; ++n) y[n].load(k[n] + d);
        multiply(x, y, dots);
        d += kStep;
      }
    }
    for (; d < dim; d += kStep) {
      const int end = d + kScoreRun < dim ? d + kScoreRun : dim;
      for (int e = d; e < end; ++e) {
        const double x = load_double(static_cast<std::int32_t>(kType), q_, e * chunk_.q.stride_column);
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
          dots[n] = fma(x, load_double(static_cast<std::int32_t>(kType), k[n], e * chunk_.k.stride_column), dots[n]);
        }
      }
    }
  }

  template <int kCount>
  static __device__ __forceinline__ void multiply(const Run<kType>& x, const Run<kType> (&y)[kCount],
                                                  double (&dots)[kCount]) {
#pragma unroll
    for (int e = 0; e < kScoreRun; ++e) {
      const double value = x.value(e);
#pragma unroll
      for (int n = 0; n < kCount; ++n) dots[n] = fma(value, y[n].value(e), dots[n]);
    }
  }

  const Element* q_;
  const Chunk& chunk_;
  bool in_runs_;
};

// The score of query i of a head (both global) and an allowed key: `bias` is pair_bias of the two. As PairDots.
template <DType kType>
__device__ __forceinline__ double pair_score(const Chunk& chunk, std::int64_t head, std::int64_t i, std::int64_t key,
                                             double bias) {
  const std::int32_t keys[1] = {static_cast<std::int32_t>(key)};
  double dot[1];
  PairDots<kType>(chunk, head, i)(keys, dot);
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
