// SPDX-License-Identifier: Apache-2.0
// Sizes of the fused kernel's instances, and the one list of them that both generates and dispatches.
#pragma once

#include <cstdint>

#include "../../src/core/dtype.hpp"

namespace ag::cuda {

// Lean: masks by ranges and bad keys only. General: also a mask tensor, slopes, softcap, entropy and bounds for top-k;
// it stages biases in shared memory and spends more instructions per score. Entropy: the first pass of lean scores with
// the sums that entropy takes; its second pass is the lean one, which computes the same bits.
enum class Variant { kLean, kGeneral, kEntropy };

// Head sizes of the instances; others run in the next larger one, its surplus filled with zeros, which changes no bit
// of a score. The general variant and the sums with entropy have fewer, because each takes seconds to compile and
// products are not what limits them.
#define ATTNGRAPH_STREAMING_LEAN_HEAD_DIMS(X) X(32) X(64) X(80) X(96) X(128) X(256)
#define ATTNGRAPH_STREAMING_GENERAL_HEAD_DIMS(X) X(64) X(128) X(256)
inline constexpr std::int64_t kLargestStreamingHeadDim = 256;
inline constexpr std::int64_t kStreamingRows = 128;  // of a block of most instances

// Sizes of one instance. A block of kWarps warps owns kRows query rows, each warp 16 kMTiles of them, and walks over
// tiles of kKeys keys, of which a warp takes kStep at a time: the scores it holds in registers.
template <DType kDtypeOf, int kDim, Variant kVariantOf>
struct Shape {
  static constexpr DType kDtype = kDtypeOf;
  static constexpr int kHeadDim = kDim;
  static constexpr bool kGeneral = kVariantOf == Variant::kGeneral;
  static constexpr bool kWeighs = kVariantOf != Variant::kLean;  // has sums of 2^x x: of general scores, when asked for
  static constexpr int kParts = kDtype == DType::kF32 ? 2 : 1;   // f32 as two f16: high, low
  static constexpr int kRowElements = kHeadDim * kParts;         // 16-bit elements of a row in shared memory
  static constexpr int kRowBytes = 2 * kRowElements;
  static constexpr int kChunks = kRowBytes / 16;  // what cp.async and ldmatrix move
  static constexpr int kDepth = kHeadDim / 16;    // products of m16n8k16 along D

  // 32 rows a warp halve what it reads of the keys per score: with 16, ldmatrix would be as slow as the tensor cores
  // (D / 4 x4-loads of 4 cycles against 2 D / 16 m16n8k16 of 8 cycles in four subcores). Only the widest rows, whose
  // queries would fill shared memory (99 KiB on sm_86, sm_89 and sm_120), get 16, and those of the general variant
  // whose registers would not suffice: products are not what limits it.
  static constexpr int kMTiles = kRowElements > 256 || (kGeneral && kRowElements > 64) ? 1 : 2;
  static constexpr int kWarps = kGeneral && kRowElements > 256 ? 2 : 4;  // two: biases want room beside the widest rows
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kWarpRows = 16 * kMTiles;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kSlots =
      2 * kMTiles;  // rows a thread holds scores of: lane l has row 8 slot + l / 4 of its warp

  static constexpr int kKeys = kRowElements <= 64 ? 128 : kRowElements <= 128 ? 64 : kRowElements <= 256 ? 32 : 16;
  static constexpr int kStep = kKeys < 32 ? kKeys : 32;  // a row's keys of a step are the bits of a word
  static constexpr int kNTiles = kStep / 8;
  static constexpr int kSlotScores = 2 * kNTiles;  // scores that a thread holds of each of its rows

  // The query's fragments live in registers when they are few enough to leave room for two blocks.
  static constexpr bool kQueryInRegisters = kDepth * kParts * kMTiles * 4 <= 64;
  static constexpr int kBlocksPerSm = kQueryInRegisters ? (kHeadDim <= 64 && !kGeneral && kParts == 1 ? 3 : 2) : 1;

  static constexpr int kTileBytes = kKeys * kRowBytes;
  static constexpr int kQueryBytes = kQueryInRegisters ? 0 : kRows * kRowBytes;
  // Biases of a step. A half-warp reads two words for each of four rows: 8 words of each, 8 banks apart.
  static constexpr int kBiasPitch = kStep + 8;
  static constexpr int kBiasBytes = kGeneral ? kWarps * kWarpRows * kBiasPitch * 4 : 0;
  static constexpr int kSharedBytes = kQueryBytes + 2 * kTileBytes + kBiasBytes;

  static_assert(kHeadDim % 16 == 0);
  static_assert(kSharedBytes + 24 * kRows <= 99 * 1024, "with its row table a block must fit sm_86, sm_89 and sm_120");
};

}  // namespace ag::cuda
