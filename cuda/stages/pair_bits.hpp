// SPDX-License-Identifier: Apache-2.0
// Pairs as bits: score matrices and ready matrices mark the pairs they want and compact the bits afterwards. Bit c % 32
// of word row * words + c / 32 stands for column c of a row. The counts of a row's bits, scanned, are the places of its
// pairs.
#pragma once

#include <cstdint>

namespace ag::cuda {

// Words of a row of `columns` bits: whole groups of 128 columns, which is what a warp reads at once.
constexpr std::int64_t bit_words(std::int64_t columns) { return (columns + 127) / 128 * 4; }

// Bits of pairs, and how many a row has.
struct PairBits {
  std::uint32_t* bits = nullptr;   // [rows][words]
  std::int64_t words = 0;          // a multiple of 4
  std::int64_t* counts = nullptr;  // [rows]
};

}  // namespace ag::cuda
