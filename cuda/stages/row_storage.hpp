// SPDX-License-Identifier: Apache-2.0
// How the rows of Q and K lie in memory, which decides who reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "work.hpp"

namespace ag::cuda {

enum class RowStorage {
  kFar,    // the columns of a row are far apart, those of neighbouring rows may be near
  kNear,   // columns are nearer than rows
  kWords,  // columns are neighbours, and all rows begin at multiples of 16 bytes and are as long
};

inline RowStorage row_storage(std::span<const Chunk> chunks, DType dtype, std::int64_t head_dim) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const auto in_words = [size](std::int64_t elements) { return elements * size % 16 == 0; };
  bool words = in_words(head_dim) && dtype != DType::kF64, near = false;
  for (const Chunk& chunk : chunks) {
    for (const AnyTensor* rows : {&chunk.q, &chunk.k}) {
      near = near || std::abs(rows->stride_column) <= std::abs(rows->stride_row);
      words = words && rows->stride_column == 1 && in_words(rows->stride_row) && in_words(rows->stride_head) &&
              reinterpret_cast<std::uintptr_t>(rows->data) % 16 == 0;
    }
  }
  return words ? RowStorage::kWords : near ? RowStorage::kNear : RowStorage::kFar;
}

// Where Q and K stand as operands already: rows of head_dim elements without padding, those of all chunks in the order
// that kernels read them in. Null: they have to be copied.
struct StandingRows {
  const void* q = nullptr;
  const void* k = nullptr;
};

inline StandingRows standing_rows(std::span<const Chunk> chunks, RowStorage storage, DType dtype,
                                  std::int64_t head_dim) {
  if (chunks.empty() || storage != RowStorage::kWords || head_dim % 16 != 0) return {};
  const std::int64_t row_bytes = head_dim * static_cast<std::int64_t>(size_of(dtype));
  const auto* const q = static_cast<const std::byte*>(chunks.front().q.data);
  const auto* const k = static_cast<const std::byte*>(chunks.front().k.data);
  std::int64_t rows = 0, keys = 0;
  for (const Chunk& chunk : chunks) {
    const bool whole = chunk.heads == 1 && chunk.queries == chunk.all_queries && chunk.mask.key_count == chunk.keys;
    if (!whole || chunk.q.stride_row != head_dim || chunk.k.stride_row != head_dim) return {};
    if (chunk.q.data != q + rows * row_bytes || chunk.k.data != k + keys * row_bytes) return {};
    rows += chunk.queries;
    keys += chunk.keys;
  }
  return {q, k};
}

}  // namespace ag::cuda
