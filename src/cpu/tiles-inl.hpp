// SPDX-License-Identifier: Apache-2.0
// The product by tiles: 16 queries and 64 keys at a time, 32 dimensions a step. `Tiles` are the instructions: the
// processor's own (amx.cpp), or a model of them that tests compile this text with, so that layout, configuration and
// remainders are tested on any machine.
#pragma once

#include <cstdint>
#include <cstring>

#include "pairs.hpp"

namespace ag::cpu {

// What ldtilecfg reads.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

template <class Tiles, int kParts>
struct TileProduct {
  static constexpr std::int64_t kRows = 16, kPanelKeys = 64;
  static constexpr std::int64_t kStep = 16;  // packed values, of two dimensions each
  static constexpr std::int64_t kTileKeys = 16;

  static std::int64_t steps(std::int64_t d) { return (d + 2 * kStep - 1) / (2 * kStep); }
  static std::int64_t part_depth(std::int64_t d) { return steps(d) * kStep; }
  static std::int64_t depth(std::int64_t d) { return kParts * part_depth(d); }

  // A step sums 16 products in each of two chains, adds them, and adds to the tile; the factor and its product. Never
  // below that of one chain.
  static double roundings(std::int64_t d) {
    constexpr double kProducts = kParts == 1 ? 1 : kParts == 2 ? 4 : 6;
    return std::max(static_cast<double>(d), 17 + kProducts * static_cast<double>(steps(d))) + 5;
  }

  // [part][depth][keys]; dimensions beyond d are 0.
  static void pack_panel(const float* rows, std::int64_t d, float* packed) {
    for (int part = 0; part < kParts; ++part, packed += part_depth(d) * kPanelKeys) {
      for (std::int64_t c = 0; c < part_depth(d); ++c) {
        for (std::int64_t j = 0; j < kPanelKeys; ++j) packed[c * kPanelKeys + j] = pair_at(rows + j * d, d, c, part);
      }
    }
  }

  // [part][step][row][values of a step]
  static void pack_query(const float* row, std::int64_t d, std::int64_t r, float* packed) {
    for (int part = 0; part < kParts; ++part, packed += part_depth(d) * kRows) {
      for (std::int64_t c = 0; c < part_depth(d); ++c)
        packed[(c / kStep * kRows + r) * kStep + c % kStep] = pair_at(row, d, c, part);
    }
  }

  static void score_strip(const float* q, const float* k, std::int64_t d, std::int64_t panels, float factor,
                          float* scores) {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) {
      config.rows[tile] = 16;
      config.row_bytes[tile] = 64;
    }
    Tiles::configure(config);
    const std::int64_t depth_of_part = part_depth(d), count = steps(d);
    for (std::int64_t panel = 0; panel < panels; ++panel, k += depth(d) * kPanelKeys, scores += kPanelKeys) {
      Tiles::template zero<0>();
      Tiles::template zero<1>();
      Tiles::template zero<2>();
      Tiles::template zero<3>();
      for (int order = 2; order >= 0; --order) {  // of the product's size, 2^-8 to that power
        for (int a = 0; a < kParts; ++a) {
          const int b = order - a;
          if (b < 0 || b >= kParts) continue;
          const float* query = q + a * depth_of_part * kRows;
          const float* key = k + b * depth_of_part * kPanelKeys;
          for (std::int64_t step = 0; step < count; ++step, query += kStep * kRows, key += kStep * kPanelKeys) {
            constexpr std::int64_t kQueryStride = 4 * kStep, kKeyStride = 4 * kPanelKeys;
            Tiles::template load<4>(query, kQueryStride);
            Tiles::template load<5>(key, kKeyStride);
            Tiles::template multiply<0, 4, 5>();
            Tiles::template load<6>(key + kTileKeys, kKeyStride);
            Tiles::template multiply<1, 4, 6>();
            Tiles::template load<7>(key + 2 * kTileKeys, kKeyStride);
            Tiles::template multiply<2, 4, 7>();
            Tiles::template load<5>(key + 3 * kTileKeys, kKeyStride);
            Tiles::template multiply<3, 4, 5>();
          }
        }
      }
      constexpr std::int64_t kScoreStride = 4 * kStripKeys<float>;
      Tiles::template store<0>(scores, kScoreStride);
      Tiles::template store<1>(scores + kTileKeys, kScoreStride);
      Tiles::template store<2>(scores + 2 * kTileKeys, kScoreStride);
      Tiles::template store<3>(scores + 3 * kTileKeys, kScoreStride);
      if (kScales) Tiles::scale(scores, factor);
    }
    Tiles::release();
  }

  static void use(Kernels<float>& table) {
    table.rows_per_block = static_cast<int>(kRows);
    table.panel_keys = kPanelKeys;
    table.depth = depth;
    table.score_roundings = roundings;
    table.products_per_value = kParts == 1 ? 1 : kParts == 2 ? 4 : 6;
    table.scales_scores = kScales;
    table.pack_panel = pack_panel;
    table.pack_query = pack_query;
    table.score_strip = score_strip;
    table.score_few = nullptr;
  }

 private:
  // A scaled query would need more parts; only f32 has as many as there can be.
  static constexpr bool kScales = kParts < 3;

  static float pair_at(const float* row, std::int64_t d, std::int64_t c, int part) {
    return packed_pair(2 * c < d ? row[2 * c] : 0.0f, 2 * c + 1 < d ? row[2 * c + 1] : 0.0f, part);
  }
};

template <class Tiles>
void use_tile_product(Kernels<float>& table, DType dtype) {
  switch (parts_of(dtype)) {
    case 1: return TileProduct<Tiles, 1>::use(table);
    case 2: return TileProduct<Tiles, 2>::use(table);
    default: return TileProduct<Tiles, 3>::use(table);
  }
}

// A product of small integers, which is exact, against plain loops: whether the tiles can be trusted. Allocates
// nothing.
template <class Tiles>
bool tiles_multiply_right() {
  constexpr std::int64_t kD = 70, kDepth = 48;  // a remainder, and more than one step
  using Product = TileProduct<Tiles, 1>;
  alignas(64) static float q[kDepth * 16], k[kDepth * 64], scores[16 * kStripKeys<float>];
  static float keys[64 * kD], query[kD];
  const auto query_value = [](std::int64_t r, std::int64_t c) { return static_cast<float>((7 * r + 3 * c) % 11 - 5); };
  const auto key_value = [](std::int64_t j, std::int64_t c) { return static_cast<float>((5 * j + 2 * c) % 13 - 6); };
  for (std::int64_t j = 0; j < 64; ++j) {
    for (std::int64_t c = 0; c < kD; ++c) keys[j * kD + c] = key_value(j, c);
  }
  Product::pack_panel(keys, kD, k);
  for (std::int64_t r = 0; r < 16; ++r) {
    for (std::int64_t c = 0; c < kD; ++c) query[c] = query_value(r, c);
    Product::pack_query(query, kD, r, q);
  }
  Product::score_strip(q, k, kD, 1, 0.5f, scores);
  for (std::int64_t r = 0; r < 16; ++r) {
    for (std::int64_t j = 0; j < 64; ++j) {
      float exact = 0;
      for (std::int64_t c = 0; c < kD; ++c) exact += query_value(r, c) * key_value(j, c);
      if (scores[r * kStripKeys<float> + j] != 0.5f * exact) return false;
    }
  }
  return true;
}

}  // namespace ag::cpu
