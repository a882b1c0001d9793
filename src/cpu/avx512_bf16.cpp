// SPDX-License-Identifier: Apache-2.0
// The product by vdpbf16ps: two dimensions of 16 keys a step, twice the rate of a multiply-add.
#include "avx512_bf16.hpp"

#include "pairs.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace ag::cpu {
namespace {

constexpr std::int64_t kRows = 12, kPanelKeys = 32;

std::int64_t depth(std::int64_t d) { return (d + 1) / 2; }

// Each step adds two products, rounding once or twice; the factor and its product.
double roundings(std::int64_t d) { return static_cast<double>(d + 4); }

void pack_panel(const float* rows, std::int64_t d, float* packed) {
  for (std::int64_t j = 0; j < kPanelKeys; ++j) {
    const float* row = rows + j * d;
    for (std::int64_t c = 0; c < d; c += 2)
      packed[c / 2 * kPanelKeys + j] = packed_pair(row[c], c + 1 < d ? row[c + 1] : 0.0f, 0);
  }
}

void pack_query(const float* row, std::int64_t d, std::int64_t r, float* packed) {
  for (std::int64_t c = 0; c < d; c += 2)
    packed[c / 2 * kRows + r] = packed_pair(row[c], c + 1 < d ? row[c + 1] : 0.0f, 0);
}

__attribute__((target("avx512f,avx512bf16"))) void score_strip(const float* q, const float* k, std::int64_t d,
                                                               std::int64_t panels, float factor, float* scores) {
  const std::int64_t steps = depth(d);
  const __m512 scale = _mm512_set1_ps(factor);
  for (std::int64_t panel = 0; panel < panels; ++panel, k += steps * kPanelKeys, scores += kPanelKeys) {
    __m512 sum[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (std::int64_t c = 0; c < steps; ++c) {
      const auto k0 = reinterpret_cast<__m512bh>(_mm512_load_ps(k + c * kPanelKeys));
      const auto k1 = reinterpret_cast<__m512bh>(_mm512_load_ps(k + c * kPanelKeys + 16));
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const auto qr = reinterpret_cast<__m512bh>(_mm512_set1_ps(q[c * kRows + r]));
        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], qr, k0);
        sum[r][1] = _mm512_dpbf16_ps(sum[r][1], qr, k1);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      _mm512_store_ps(scores + r * kStripKeys<float>, _mm512_mul_ps(sum[r][0], scale));
      _mm512_store_ps(scores + r * kStripKeys<float> + 16, _mm512_mul_ps(sum[r][1], scale));
    }
  }
}

}  // namespace

void use_avx512_bf16(Kernels<float>& table) {
  table.rows_per_block = kRows;
  table.panel_keys = kPanelKeys;
  table.depth = table.key_depth = depth;
  table.score_roundings = roundings;
  table.products_per_value = 1;
  table.scales_scores = true;
  table.pack_panel = pack_panel;
  table.pack_query = pack_query;
  table.score_strip = score_strip;
  table.score_few = nullptr;
}

}  // namespace ag::cpu

#else

namespace ag::cpu {
void use_avx512_bf16(Kernels<float>&) {}  // never asked for: can() says no
}  // namespace ag::cpu

#endif
