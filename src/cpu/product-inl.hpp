// SPDX-License-Identifier: Apache-2.0
// The product of kernels.hpp: keys and queries packed for a register tile, and the tile.
#if defined(ATTNGRAPH_CPU_PRODUCT_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTNGRAPH_CPU_PRODUCT_INL_HPP
#undef ATTNGRAPH_CPU_PRODUCT_INL_HPP
#else
#define ATTNGRAPH_CPU_PRODUCT_INL_HPP
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace ag::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Register tile: kRows x 2 vectors of sums, 2 vectors of keys and a broadcast query value must fit the register file.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr int kVectorRegisters = 32;
inline constexpr int kRows = 12;
#else
inline constexpr int kVectorRegisters = 16;
inline constexpr int kRows = 6;
#endif

template <class T>
HWY_INLINE std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
}

template <class T>
void pack_panel(const T* rows, std::int64_t d, T* packed) {
  const std::int64_t keys = 2 * lanes<T>();
  for (std::int64_t j = 0; j < keys; ++j) {
    for (std::int64_t c = 0; c < d; ++c) packed[c * keys + j] = rows[j * d + c];
  }
}

template <class T>
void pack_query(const T* row, std::int64_t d, std::int64_t r, T* packed) {
  for (std::int64_t c = 0; c < d; ++c) packed[c * kRows + r] = row[c];
}

inline std::int64_t whole_depth(std::int64_t d) { return d; }
// A fused chain of d, the query rounded after scaling, the result.
inline double chain_roundings(std::int64_t d) { return static_cast<double>(d + 2); }

template <class T>
void score_strip(const T* HWY_RESTRICT q, const T* HWY_RESTRICT k, std::int64_t d, std::int64_t panels, T /*factor*/,
                 T* HWY_RESTRICT scores) {
  const hn::ScalableTag<T> dt;
  const std::int64_t step = lanes<T>();
  for (std::int64_t panel = 0; panel < panels; ++panel, k += d * 2 * step, scores += 2 * step) {
    hn::Vec<decltype(dt)> sum[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(dt);
    for (std::int64_t c = 0; c < d; ++c) {
      const auto k0 = hn::Load(dt, k + c * 2 * step);
      const auto k1 = hn::Load(dt, k + c * 2 * step + step);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const auto qr = hn::Set(dt, q[c * kRows + r]);
        sum[r][0] = hn::MulAdd(qr, k0, sum[r][0]);
        sum[r][1] = hn::MulAdd(qr, k1, sum[r][1]);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      hn::Store(sum[r][0], dt, scores + r * kStripKeys<T>);
      hn::Store(sum[r][1], dt, scores + r * kStripKeys<T> + step);
    }
  }
}

// kN rows by kP panels: sums enough to keep up with memory. Every sum is the chain of score_strip.
template <int kN, int kP, class T>
HWY_INLINE void score_panels(const T* HWY_RESTRICT q, const T* HWY_RESTRICT k, std::int64_t d, T* HWY_RESTRICT scores) {
  const hn::ScalableTag<T> dt;
  const std::int64_t step = lanes<T>(), panel = d * 2 * step;
  hn::Vec<decltype(dt)> sum[std::size_t{kP}][std::size_t{kN}][2];
#pragma GCC unroll 4
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 4
    for (int r = 0; r < kN; ++r) sum[p][r][0] = sum[p][r][1] = hn::Zero(dt);
  }
  for (std::int64_t c = 0; c < d; ++c) {
#pragma GCC unroll 4
    for (int p = 0; p < kP; ++p) {
      const T* keys = k + p * panel + c * 2 * step;
      const auto k0 = hn::Load(dt, keys), k1 = hn::Load(dt, keys + step);
#pragma GCC unroll 4
      for (int r = 0; r < kN; ++r) {
        const auto qr = hn::Set(dt, q[c * kRows + r]);
        sum[p][r][0] = hn::MulAdd(qr, k0, sum[p][r][0]);
        sum[p][r][1] = hn::MulAdd(qr, k1, sum[p][r][1]);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 4
    for (int r = 0; r < kN; ++r) {
      hn::Store(sum[p][r][0], dt, scores + r * kStripKeys<T> + p * 2 * step);
      hn::Store(sum[p][r][1], dt, scores + r * kStripKeys<T> + p * 2 * step + step);
    }
  }
}

template <int kN, int kP, class T>
void score_panels_of_strip(const T* HWY_RESTRICT q, const T* HWY_RESTRICT k, std::int64_t d, std::int64_t panels,
                           T* HWY_RESTRICT scores) {
  const std::int64_t keys = 2 * lanes<T>();
  std::int64_t p = 0;
  for (; p + kP <= panels; p += kP) score_panels<kN, kP>(q, k + p * d * keys, d, scores + p * keys);
  for (; p < panels; ++p) score_panels<kN, 1>(q, k + p * d * keys, d, scores + p * keys);
}

template <class T>
void score_few(const T* q, const T* k, std::int64_t d, std::int64_t rows, std::int64_t panels, T* scores) {
  switch (rows) {
    case 1: return score_panels_of_strip<1, 4>(q, k, d, panels, scores);
    case 2: return score_panels_of_strip<2, 1>(q, k, d, panels, scores);
    case 3: return score_panels_of_strip<3, 1>(q, k, d, panels, scores);
    default: return score_panels_of_strip<4, 1>(q, k, d, panels, scores);
  }
}

}  // namespace ag::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
