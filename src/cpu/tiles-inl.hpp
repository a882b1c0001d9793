// SPDX-License-Identifier: Apache-2.0
// The product by tiles: 32 queries and 32 keys at a time, 32 dimensions a step. `Tiles` are the instructions: the
// processor's own (amx.cpp), or a model of them that tests compile this text with, so that layout, configuration and
// remainders are tested on any machine.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "pairs.hpp"

namespace ag::cpu {

// What ldtilecfg reads.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

inline TileConfig whole_tiles() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.rows[tile] = 16;
    config.row_bytes[tile] = 64;
  }
  return config;
}

constexpr std::size_t products_of(int parts) { return parts == 1 ? 1 : parts == 2 ? 4 : 6; }

struct PartsOfProduct {
  int query = 0, key = 0;
};

// Small products first.
template <int kParts>
constexpr std::array<PartsOfProduct, products_of(kParts)> order_of_products() {
  std::array<PartsOfProduct, products_of(kParts)> order;
  std::size_t n = 0;
  for (int size = 2; size >= 0; --size) {  // 2^-8 to that power
    for (int a = 0; a < kParts; ++a) {
      if (const int b = size - a; b >= 0 && b < kParts) order[n++] = {a, b};
    }
  }
  return order;
}

template <class Tiles, int kParts>
struct TileProduct {
  static constexpr std::int64_t kTile = 16, kTileValues = kTile * kTile;  // its rows, and packed values of a row
  static constexpr std::int64_t kRows = 2 * kTile, kPanelKeys = 2 * kTile;
  static constexpr std::int64_t kStep = kTile;  // packed values, of two dimensions each
  static constexpr auto kProducts = static_cast<std::int64_t>(products_of(kParts));
  static_assert(kPanelKeys == kPieceKeys && kRows <= kMostRows);

  static std::int64_t steps(std::int64_t d) { return (d + 2 * kStep - 1) / (2 * kStep); }
  static std::int64_t part_depth(std::int64_t d) { return steps(d) * kStep; }
  static std::int64_t depth(std::int64_t d) { return kParts * part_depth(d); }

  // A step sums 16 products in each of two chains, adds them, and adds to the tile; the factor and its product. Never
  // below that of one chain.
  static double roundings(std::int64_t d) {
    return std::max(static_cast<double>(d), 17 + static_cast<double>(kProducts * steps(d))) + 5;
  }

  // [part][step][two tiles of 16 keys][values of a step][keys]; dimensions beyond d are 0. A tile is 1 KiB in one
  // piece.
  static void pack_panel(const float* rows, std::int64_t d, float* packed) {
    for (int part = 0; part < kParts; ++part) {
      for (std::int64_t c = 0; c < part_depth(d); c += kStep) {
        for (std::int64_t first = 0; first < kPanelKeys; first += kTile, packed += kTileValues) {
          for (std::int64_t n = 0; n < kStep; ++n) {
            for (std::int64_t j = 0; j < kTile; ++j)
              packed[n * kTile + j] = pair_at(rows + (first + j) * d, d, c + n, part);
          }
        }
      }
    }
  }

  // [part][step][two tiles of 16 rows][row][values of a step]
  static void pack_query(const float* row, std::int64_t d, std::int64_t r, float* packed) {
    packed += r / kTile * kTileValues + r % kTile * kStep;
    for (int part = 0; part < kParts; ++part, packed += part_depth(d) * kRows) {
      for (std::int64_t c = 0; c < part_depth(d); ++c)
        packed[c / kStep * 2 * kTileValues + c % kStep] = pair_at(row, d, c, part);
    }
  }

  // Rows and keys of 2 x 2 tiles, of which each that is loaded is used twice; `kRowTiles` of 1: the first 16 rows.
  template <int kRowTiles>
  class Panel {
   public:
    Panel(const float* q, const float* k, std::int64_t d) : q_(q), k_(k), count_(steps(d)) {
      Tiles::template zero<0>();
      Tiles::template zero<1>();
      if constexpr (kRowTiles == 2) {
        Tiles::template zero<2>();
        Tiles::template zero<3>();
      }
    }
    // The units up to `end`: products of two parts, small ones first, step by step.
    void multiply_to(std::int64_t end) {
      for (; done_ < end; ++done_) {
        constexpr std::int64_t kStride = 4 * kTile;
        const float* query = q_ + (kOrder[static_cast<std::size_t>(pair_)].query * count_ + step_) * 2 * kTileValues;
        const float* key = k_ + (kOrder[static_cast<std::size_t>(pair_)].key * count_ + step_) * 2 * kTileValues;
        Tiles::template load<4>(query, kStride);
        Tiles::template load<6>(key, kStride);
        Tiles::template multiply<0, 4, 6>();
        Tiles::template load<7>(key + kTileValues, kStride);
        Tiles::template multiply<1, 4, 7>();
        if constexpr (kRowTiles == 2) {
          Tiles::template load<5>(query + kTileValues, kStride);
          Tiles::template multiply<2, 5, 6>();
          Tiles::template multiply<3, 5, 7>();
        }
        if (++step_ == count_) {
          step_ = 0;
          ++pair_;
        }
      }
    }
    // To scores[rows][stride in values].
    static void store_first(float* scores, std::int64_t stride) {
      Tiles::template store<0>(scores, 4 * stride);
      Tiles::template store<1>(scores + kTile, 4 * stride);
    }
    static void store_second(float* scores, std::int64_t stride) {
      if constexpr (kRowTiles == 2) {
        Tiles::template store<2>(scores + kTile * stride, 4 * stride);
        Tiles::template store<3>(scores + kTile * stride + kTile, 4 * stride);
      }
    }

   private:
    const float *q_, *k_;
    std::int64_t count_, step_ = 0, done_ = 0;
    int pair_ = 0;
  };

  template <int kRowTiles>
  static void score_rows(const float* q, const float* k, std::int64_t d, std::int64_t panels, float factor,
                         float* scores) {
    alignas(64) float piece[kRows * kPanelKeys];
    Tiles::configure(whole_tiles());
    for (std::int64_t n = 0; n < panels; ++n, k += depth(d) * kPanelKeys, scores += kPanelKeys) {
      Panel<kRowTiles> panel(q, k, d);
      panel.multiply_to(kProducts * steps(d));
      panel.store_first(kScales ? piece : scores, kScales ? kPanelKeys : kStripKeys<float>);
      panel.store_second(kScales ? piece : scores, kScales ? kPanelKeys : kStripKeys<float>);
      if (kScales) Tiles::scale(piece, kRowTiles * kTile, factor, scores);
    }
    Tiles::release();
  }

  // Three quarters of the rows are swept between the products of the next panel. The first half of its scores is stored
  // before the last quarter: what is swept next has left the store buffer by then, and no load is of an address that
  // equals, but for its page, one being stored.
  template <int kRowTiles>
  static void score_rows_under_sweep(const float* q, const float* k, std::int64_t d, std::int64_t panels,
                                     std::int64_t first_key, RunningSweep<float>& sweep, SweepRows<float> sweep_rows) {
    const std::int64_t units = kProducts * steps(d), panel_size = depth(d) * kPanelKeys, rows = sweep.rows;
    const auto quarter = [&](std::int64_t n) { return rows * n / 4; };
    float *ready = sweep.pieces[0], *next = sweep.pieces[1];
    Panel<kRowTiles> first(q, k, d);
    first.multiply_to(units);
    first.store_first(ready, kPanelKeys);
    first.store_second(ready, kPanelKeys);
    for (std::int64_t n = 1; n < panels; ++n, first_key += kPanelKeys) {
      k += panel_size;
      Panel<kRowTiles> panel(q, k, d);
      for (std::int64_t part = 0; part < 3; ++part) {
        panel.multiply_to((units * (part + 1) + 2) / 3);
        sweep_rows(sweep, ready, first_key, quarter(part), quarter(part + 1));
      }
      panel.store_first(next, kPanelKeys);
      sweep_rows(sweep, ready, first_key, quarter(3), rows);
      panel.store_second(next, kPanelKeys);
      std::swap(ready, next);
    }
    sweep_rows(sweep, ready, first_key, 0, rows);
  }

  static void score_under_sweep(const float* q, const float* k, std::int64_t d, std::int64_t panels,
                                std::int64_t first_key, RunningSweep<float>& sweep, SweepRows<float> sweep_rows) {
    const auto score = sweep.rows > kTile ? score_rows_under_sweep<2> : score_rows_under_sweep<1>;
    score(q, k, d, panels, first_key, sweep, sweep_rows);
  }

  static void open() { Tiles::configure(whole_tiles()); }
  static void close() { Tiles::release(); }

  static void use(Kernels<float>& table) {
    table.rows_per_block = static_cast<int>(kRows);
    table.panel_keys = kPanelKeys;
    table.depth = table.key_depth = depth;
    table.score_roundings = roundings;
    table.products_per_value = static_cast<double>(kProducts);
    table.scales_scores = kScales;
    table.pack_panel = pack_panel;
    table.pack_query = pack_query;
    table.score_strip = score_rows<2>;
    table.score_few = nullptr;
    table.score_half = score_rows<1>;
    table.score_under_sweep = score_under_sweep;
    table.open_product = open;
    table.close_product = close;
  }

 private:
  // A scaled query would need more parts; only f32 has as many as there can be.
  static constexpr bool kScales = kParts < 3;

  static constexpr auto kOrder = order_of_products<kParts>();

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
  constexpr std::int64_t kRows = Product::kRows, kKeys = Product::kPanelKeys;
  alignas(64) static float q[std::size_t{kDepth * kRows}], k[std::size_t{kDepth * kKeys}];
  alignas(64) static float scores[std::size_t{kRows * kStripKeys<float>}];
  static float keys[std::size_t{kKeys * kD}], query[kD];
  const auto query_value = [](std::int64_t r, std::int64_t c) { return static_cast<float>((7 * r + 3 * c) % 11 - 5); };
  const auto key_value = [](std::int64_t j, std::int64_t c) { return static_cast<float>((5 * j + 2 * c) % 13 - 6); };
  for (std::int64_t j = 0; j < kKeys; ++j) {
    for (std::int64_t c = 0; c < kD; ++c) keys[j * kD + c] = key_value(j, c);
  }
  Product::pack_panel(keys, kD, k);
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t c = 0; c < kD; ++c) query[c] = query_value(r, c);
    Product::pack_query(query, kD, r, q);
  }
  Product::template score_rows<2>(q, k, kD, 1, 0.5f, scores);
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t j = 0; j < kKeys; ++j) {
      float exact = 0;
      for (std::int64_t c = 0; c < kD; ++c) exact += query_value(r, c) * key_value(j, c);
      if (scores[r * kStripKeys<float> + j] != 0.5f * exact) return false;
    }
  }
  return true;
}

}  // namespace ag::cpu
