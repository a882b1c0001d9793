// SPDX-License-Identifier: Apache-2.0
// Where the 16-byte chunks of a tile's rows stand in shared memory, so that ldmatrix meets no bank twice.
#pragma once

#include "../device/macros.cuh"

namespace ag::cuda {

// Chunk c of row r stands at chunk c ^ flip(r) of the same row. ldmatrix reads the same chunk c of eight rows that
// begin at a multiple of 8, and shared memory has eight banks of 16 bytes. With g = gcd(kChunks, 8), rows r start at
// bank kChunks r mod 8, which runs through the multiples of g with period 8 / g; rows of the same start must differ
// below g: flip(r) = (r / (8 / g)) mod g does that, and leaves the row because g divides kChunks.
template <int kChunks>
struct Swizzle {
  static constexpr int kGroup = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : 2;
  static_assert(kChunks % 2 == 0);
  static constexpr int kPeriod = 8 / kGroup;

  __device__ static __forceinline__ int flip(int row) { return (row / kPeriod) % kGroup; }
  __device__ static __forceinline__ int offset_bytes(int row, int chunk) {
    return row * (kChunks * 16) + ((chunk ^ flip(row)) * 16);
  }
  // The same within a row whose flip is known, for chunk kChunk ^ bit with kChunk even: low = bit ^ flip. What varies
  // with kChunk beyond the group is a constant of the compiler's.
  template <int kChunk>
  __device__ static __forceinline__ int chunk_bytes(int low) {
    static_assert(kChunk % 2 == 0);
    constexpr int kMask = kGroup - 1;
    return (kChunk & ~kMask) * 16 + (((kChunk & kMask) ^ low) * 16);
  }
};

}  // namespace ag::cuda
