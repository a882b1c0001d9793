// SPDX-License-Identifier: Apache-2.0
// The tile instructions that src/cpu/tiles-inl.hpp uses, in plain loops, as Intel's manual defines them: TDPBF16PS sums
// even and odd dimensions in two chains, rounding each product's sum to nearest, takes subnormal values and results for
// 0, and adds the chains and then the tile. What the processor would refuse is counted as a fault.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

#include "cpu/tiles-inl.hpp"

namespace ag::test {

struct TileModel {
  static inline thread_local cpu::TileConfig config;
  static inline thread_local bool configured = false;
  static inline thread_local std::uint32_t tiles[8][16][16];
  static inline int faults = 0;

  static void configure(const cpu::TileConfig& wanted) {
    config = wanted;
    configured = true;
    bool right = wanted.palette == 1 && wanted.start_row == 0;
    for (int n = 0; n < 16; ++n) {
      const int most_rows = n < 8 ? 16 : 0, most_bytes = n < 8 ? 64 : 0;
      right = right && wanted.rows[n] <= most_rows && wanted.row_bytes[n] <= most_bytes;
    }
    for (const std::uint8_t byte : wanted.reserved) right = right && byte == 0;
    faults += !right;
  }
  static void release() {
    faults += !configured;
    configured = false;
  }
  template <int kTile>
  static void zero() {
    check(kTile);
    std::memset(tiles[kTile], 0, sizeof tiles[kTile]);
  }
  template <int kTile>
  static void load(const float* p, std::int64_t stride) {
    check(kTile);
    std::memset(tiles[kTile], 0, sizeof tiles[kTile]);
    for (int r = 0; r < config.rows[kTile]; ++r)
      std::memcpy(tiles[kTile][r], reinterpret_cast<const char*>(p) + r * stride, config.row_bytes[kTile]);
  }
  template <int kTile>
  static void store(float* p, std::int64_t stride) {
    check(kTile);
    for (int r = 0; r < config.rows[kTile]; ++r)
      std::memcpy(reinterpret_cast<char*>(p) + r * stride, tiles[kTile][r], config.row_bytes[kTile]);
  }
  template <int kSum, int kLeft, int kRight>
  static void multiply() {
    check(kSum);
    check(kLeft);
    check(kRight);
    faults += config.row_bytes[kLeft] / 4 != config.rows[kRight] || config.rows[kSum] != config.rows[kLeft] ||
              config.row_bytes[kSum] != config.row_bytes[kRight];
    for (int m = 0; m < config.rows[kSum]; ++m) {
      for (int n = 0; n < config.row_bytes[kSum] / 4; ++n) {
        float chain[2] = {0, 0};
        for (int k = 0; k < config.row_bytes[kLeft] / 4; ++k) {
          for (int half = 0; half < 2; ++half) {
            const float a = value(tiles[kLeft][m][k], half), b = value(tiles[kRight][k][n], half);
            chain[half] = flushed(static_cast<float>(double{a} * double{b} + double{chain[half]}));
          }
        }
        float sum;
        std::memcpy(&sum, &tiles[kSum][m][n], 4);
        sum = flushed(flushed(sum) + flushed(chain[0] + chain[1]));
        std::memcpy(&tiles[kSum][m][n], &sum, 4);
      }
    }
  }
  static void scale(const float* piece, std::int64_t rows, float factor, float* scores) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t j = 0; j < cpu::kPieceKeys; ++j)
        scores[r * cpu::kStripKeys<float> + j] = piece[r * cpu::kPieceKeys + j] * factor;
    }
  }

 private:
  static void check(int tile) { faults += !configured || config.rows[tile] == 0; }
  static float flushed(float x) { return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
  static float value(std::uint32_t pair, int half) {
    return flushed(std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xFFFF0000u));
  }
};

// While it lives, `cpu` multiplies by the model.
class WithTileModel {
 public:
  WithTileModel() {
    TileModel::faults = 0;
    cpu::replace_tiles(cpu::use_tile_product<TileModel>);
    cpu::force_product(Product::kAmx);
  }
  ~WithTileModel() {
    cpu::replace_tiles(nullptr);
    cpu::force_product(std::nullopt);
  }
  WithTileModel(const WithTileModel&) = delete;
  WithTileModel& operator=(const WithTileModel&) = delete;
};

}  // namespace ag::test
