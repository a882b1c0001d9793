// SPDX-License-Identifier: Apache-2.0
// Rows from global to shared memory, and products of a warp's queries with the keys of a step.
#pragma once

#include <cstdint>

#include "../device/ptx.cuh"
#include "arguments.hpp"
#include "shape.hpp"
#include "swizzle.cuh"

namespace ag::cuda {

template <class T>
__device__ __forceinline__ T least(T a, T b) {
  return b < a ? b : a;
}
template <class T>
__device__ __forceinline__ T most(T a, T b) {
  return a < b ? b : a;
}

// Position of packed row p, the p-th of (query, head) pairs in the order query, then head: the rows of a tile are few
// queries of all heads, so that they see nearly the same keys under causal and window masks.
struct PackedRow {
  std::int64_t query = 0;  // of the range
  std::int64_t head = 0;
  __device__ __forceinline__ PackedRow(const Chunk& chunk, std::int64_t p)
      : query(p / chunk.heads), head(p - query * chunk.heads) {}
  // Its number among the chunk's rows in the order of the answer.
  __device__ __forceinline__ std::int64_t row(const Chunk& chunk) const { return head * chunk.queries + query; }
};

// Starts copying kRowCount rows to `shared` (swizzled); row_address(r) is where row r stands, or null for zeros. `some`
// is any address that may be named. Parts of a row are pitch_bytes apart there and zero-filled to kHeadDim here.
template <class S, int kRowCount, class Address>
__device__ __forceinline__ void copy_rows(unsigned char* shared, const void* some, int pitch_bytes,
                                          Address&& row_address) {
  constexpr int kPartChunks = S::kChunks / S::kParts;
  constexpr int kTotal = kRowCount * S::kChunks;
#pragma unroll
  for (int first = 0; first < kTotal; first += S::kThreads) {
    const int n = first + static_cast<int>(threadIdx.x);
    if (kTotal % S::kThreads != 0 && n >= kTotal) break;
    const int row = n / S::kChunks;
    const int chunk = n % S::kChunks;
    const int part = S::kParts == 1 ? 0 : chunk / kPartChunks;
    const int offset = (chunk - part * kPartChunks) * 16;
    const unsigned char* const source = row_address(row);
    const bool exists = source != nullptr && offset < pitch_bytes;
    cp_async_16(shared + Swizzle<S::kChunks>::offset_bytes(row, chunk),
                exists ? source + (part * pitch_bytes + offset) : some, exists ? 16 : 0);
  }
}

// The same for rows that lie side by side from `rows` on and need no zeros: addresses are one base and constants.
template <class S, int kRowCount>
__device__ __forceinline__ void copy_whole_rows(unsigned char* shared, const unsigned char* rows) {
  constexpr int kTotal = kRowCount * S::kChunks;
  const int thread = static_cast<int>(threadIdx.x);
  const unsigned char* const source = rows + thread * 16;
#pragma unroll
  for (int first = 0; first < kTotal; first += S::kThreads) {
    const int n = first + thread;
    if (kTotal % S::kThreads != 0 && n >= kTotal) break;
    cp_async_16(shared + Swizzle<S::kChunks>::offset_bytes(n / S::kChunks, n % S::kChunks), source + first * 16, 16);
  }
}

// Fragments of a warp's queries for one m16n8k16 step along D.
template <class S>
struct QueryFragments {
  std::uint32_t value[S::kQueryInRegisters ? S::kDepth : 1][S::kParts][S::kMTiles][4];
};

// Registers: every thread fetches the pairs of elements that its fragments hold, of packed rows [first, first + rows)
// at `source`. Once per block.
template <class S>
__device__ __forceinline__ void load_query_registers(const std::uint16_t* rows_begin, std::int64_t rows,
                                                     std::int64_t pitch, std::uint32_t bits_and, std::uint32_t bits_xor,
                                                     QueryFragments<S>& q) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int slot = 0; slot < S::kSlots; ++slot) {
    const std::int64_t p = slot * 8 + lane / 4;
    const std::uint16_t* const source = rows_begin + (p < rows ? p : 0) * pitch * S::kParts + 2 * (lane % 4);
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
#pragma unroll
      for (int n = 0; n < 2 * S::kDepth; ++n) {
        const bool exists = p < rows && n * 8 < pitch;
        const std::uint32_t bits = exists ? *reinterpret_cast<const std::uint32_t*>(source + part * pitch + n * 8) : 0;
        q.value[n / 2][part][slot / 2][slot % 2 + 2 * (n % 2)] = (bits & bits_and) ^ bits_xor;
      }
    }
  }
}

// Shared memory: the same change of the query's bits, by the threads that have copied them. To be called after the
// copies have arrived and before the barrier that shows them to others.
template <class S>
__device__ __forceinline__ void change_query_bits(unsigned char* s_query, std::uint32_t bits_and,
                                                  std::uint32_t bits_xor) {
  for (int n = static_cast<int>(threadIdx.x); n < S::kRows * S::kChunks; n += S::kThreads) {
    auto* const words =
        reinterpret_cast<std::uint32_t*>(s_query + Swizzle<S::kChunks>::offset_bytes(n / S::kChunks, n % S::kChunks));
#pragma unroll
    for (int w = 0; w < 4; ++w) words[w] = (words[w] & bits_and) ^ bits_xor;
  }
}

// scores[m][n] += queries of m-tile m times keys of n-tile n, for the step whose first key stands at s_keys and the
// warp whose first query stands at s_query (unused when they are in registers).
template <class S>
class Products {
 public:
  using Scores = float[S::kMTiles][S::kNTiles][4];

  // Lane l of ldmatrix gives row l % 8 of matrix l / 8. Keys: matrices 0, 1 are the two halves of k16 of 8 keys, 2, 3
  // those of the next 8. Queries: 0, 1 are rows 0-7 and 8-15 of the first half, 2, 3 of the second.
  __device__ __forceinline__ Products() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int flip = Swizzle<S::kChunks>::flip(lane % 8);  // rows begin at multiples of 8: flip has period 8
    key_row_bytes_ = (lane % 8 + lane / 16 * 8) * S::kRowBytes;
    key_low_ = (lane / 8 % 2) ^ flip;
    query_row_bytes_ = (lane % 8 + lane / 8 % 2 * 8) * S::kRowBytes;
    query_low_ = (lane / 16) ^ flip;
  }

  __device__ __forceinline__ void add(const QueryFragments<S>& q, const unsigned char* s_query,
                                      const unsigned char* s_keys, Scores& scores) const {
    add_depth<0>(q, s_query, s_keys, scores);
  }

 private:
  template <int kK>
  __device__ __forceinline__ void add_depth(const QueryFragments<S>& q, const unsigned char* s_query,
                                            const unsigned char* s_keys, Scores& scores) const {
    std::uint32_t keys[S::kParts][S::kNTiles][2];
    load_keys<2 * kK>(s_keys, keys[0]);
    if constexpr (S::kParts == 2) load_keys<2 * kK + S::kChunks / 2>(s_keys, keys[1]);
#pragma unroll
    for (int m = 0; m < S::kMTiles; ++m) {
      std::uint32_t query[S::kParts][4];
      if constexpr (S::kQueryInRegisters) {
#pragma unroll
        for (int part = 0; part < S::kParts; ++part) {
#pragma unroll
          for (int w = 0; w < 4; ++w) query[part][w] = q.value[kK][part][m][w];
        }
      } else {
        const unsigned char* const rows = s_query + m * 16 * S::kRowBytes + query_row_bytes_;
        ldmatrix_x4(query[0], rows + Swizzle<S::kChunks>::template chunk_bytes<2 * kK>(query_low_));
        if constexpr (S::kParts == 2) {
          ldmatrix_x4(query[1], rows + Swizzle<S::kChunks>::template chunk_bytes<2 * kK + S::kChunks / 2>(query_low_));
        }
      }
#pragma unroll
      for (int n = 0; n < S::kNTiles; ++n) {
        if constexpr (S::kParts == 2) {  // low * low is below the rounding of the rest: docs/numerics.md
          multiply(scores[m][n], query[1], keys[0][n]);
          multiply(scores[m][n], query[0], keys[1][n]);
        }
        multiply(scores[m][n], query[0], keys[0][n]);
      }
    }
    if constexpr (kK + 1 < S::kDepth) add_depth<kK + 1>(q, s_query, s_keys, scores);
  }

  // Chunks kChunk and kChunk + 1 of all keys of the step.
  template <int kChunk>
  __device__ __forceinline__ void load_keys(const unsigned char* s_keys, std::uint32_t (&keys)[S::kNTiles][2]) const {
    const unsigned char* const rows =
        s_keys + key_row_bytes_ + Swizzle<S::kChunks>::template chunk_bytes<kChunk>(key_low_);
#pragma unroll
    for (int n = 0; n < S::kNTiles; n += 2) {
      std::uint32_t four[4];
      ldmatrix_x4(four, rows + n * 8 * S::kRowBytes);
      keys[n][0] = four[0];
      keys[n][1] = four[1];
      keys[n + 1][0] = four[2];
      keys[n + 1][1] = four[3];
    }
  }

  __device__ static __forceinline__ void multiply(float (&c)[4], const std::uint32_t (&a)[4],
                                                  const std::uint32_t (&b)[2]) {
    if constexpr (S::kDtype == DType::kBF16) {
      mma_bf16(c, a, b[0], b[1]);
    } else {
      mma_f16(c, a, b[0], b[1]);
    }
  }

  int key_row_bytes_, key_low_, query_row_bytes_, query_low_;
};

}  // namespace ag::cuda
