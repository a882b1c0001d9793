// SPDX-License-Identifier: Apache-2.0
// The product of kernels.hpp: keys and queries packed for a register tile, and the tile. Packed keys are `Stored` as
// values of the working precision or, of 16-bit keys that are kept, as they came: widened in registers, which is exact,
// so that a step reads half of the bytes and has the bits of both.
#if defined(ATTNGRAPH_CPU_PRODUCT_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTNGRAPH_CPU_PRODUCT_INL_HPP
#undef ATTNGRAPH_CPU_PRODUCT_INL_HPP
#else
#define ATTNGRAPH_CPU_PRODUCT_INL_HPP
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>

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

template <class T, class Stored>
HWY_INLINE hn::Vec<hn::ScalableTag<T>> load_keys(const Stored* HWY_RESTRICT keys) {
  const hn::ScalableTag<T> d;
  if constexpr (std::is_same_v<T, Stored>) {
    return hn::Load(d, keys);
  } else {
    return hn::PromoteTo(d, hn::Load(hn::Rebind<Stored, hn::ScalableTag<T>>(), keys));
  }
}

template <class T>
void pack_panel(const T* rows, std::int64_t d, T* packed) {
  const std::int64_t keys = 2 * lanes<T>();
  for (std::int64_t j = 0; j < keys; ++j) {
    for (std::int64_t c = 0; c < d; ++c) packed[c * keys + j] = rows[j * d + c];
  }
}

// Rows whose values are of the type `Stored`, all of them.
template <class Stored>
void pack_panel_of(const float* rows, std::int64_t d, float* packed) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<Stored, decltype(df)> ds;
  const std::int64_t step = lanes<float>(), keys = 2 * step;
  auto* out = reinterpret_cast<Stored*>(packed);
  HWY_ALIGN float column[2 * hn::MaxLanes(df)];
  for (std::int64_t c = 0; c < d; ++c, out += keys) {
    for (std::int64_t j = 0; j < keys; ++j) column[j] = rows[j * d + c];
    hn::Store(hn::DemoteTo(ds, hn::Load(df, column)), ds, out);
    hn::Store(hn::DemoteTo(ds, hn::Load(df, column + step)), ds, out + step);
  }
}

template <class T>
void pack_query(const T* row, std::int64_t d, std::int64_t r, T* packed) {
  for (std::int64_t c = 0; c < d; ++c) packed[c * kRows + r] = row[c];
}

inline std::int64_t whole_depth(std::int64_t d) { return d; }
inline std::int64_t half_depth(std::int64_t d) { return (d + 1) / 2; }
template <class T, class Stored>
HWY_INLINE std::int64_t panel_size(std::int64_t d) {  // in Stored
  return std::is_same_v<T, Stored> ? d * 2 * lanes<T>() : half_depth(d) * 2 * 2 * lanes<T>();
}
// A fused chain of d, the query rounded after scaling, the result.
inline double chain_roundings(std::int64_t d) { return static_cast<double>(d + 2); }

template <class T, class Stored>
HWY_INLINE void score_tiles(const T* HWY_RESTRICT q, const T* HWY_RESTRICT packed, std::int64_t d, std::int64_t panels,
                            T* HWY_RESTRICT scores) {
  const hn::ScalableTag<T> dt;
  const std::int64_t step = lanes<T>(), size = panel_size<T, Stored>(d);
  const auto* k = reinterpret_cast<const Stored*>(packed);
  for (std::int64_t panel = 0; panel < panels; ++panel, k += size, scores += 2 * step) {
    hn::Vec<decltype(dt)> sum[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(dt);
    for (std::int64_t c = 0; c < d; ++c) {
      const auto k0 = load_keys<T>(k + c * 2 * step);
      const auto k1 = load_keys<T>(k + c * 2 * step + step);
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

template <class T>
void score_strip(const T* q, const T* k, std::int64_t d, std::int64_t panels, T /*factor*/, T* scores) {
  score_tiles<T, T>(q, k, d, panels, scores);
}

template <class Stored>
void score_halves(const float* q, const float* k, std::int64_t d, std::int64_t panels, float /*factor*/,
                  float* scores) {
  score_tiles<float, Stored>(q, k, d, panels, scores);
}

// Few rows wait for memory. One row: four panels at a time are sums enough to keep up with it, and streams that the
// processor fetches ahead by itself, if no two of them are in the same 4 KiB: panels of halves are taken `kApart`. More
// rows: a panel at a time, fetched a page ahead.
inline constexpr std::int64_t kBytesAhead = 4096;

// kN rows by kP panels, every kApart-th. Every sum is the chain of score_strip.
template <int kN, int kP, int kApart, class T, class Stored>
HWY_INLINE void score_panels(const T* HWY_RESTRICT q, const Stored* HWY_RESTRICT k, std::int64_t d,
                             T* HWY_RESTRICT scores) {
  const hn::ScalableTag<T> dt;
  const std::int64_t step = lanes<T>(), panel = kApart * panel_size<T, Stored>(d), width = kApart * 2 * step;
  hn::Vec<decltype(dt)> sum[std::size_t{kP}][std::size_t{kN}][2];
#pragma GCC unroll 4
  for (int p = 0; p < kP; ++p) {
#pragma GCC unroll 4
    for (int r = 0; r < kN; ++r) sum[p][r][0] = sum[p][r][1] = hn::Zero(dt);
  }
  for (std::int64_t c = 0; c < d; ++c) {
#pragma GCC unroll 4
    for (int p = 0; p < kP; ++p) {
      const Stored* keys = k + p * panel + c * 2 * step;
      if constexpr (kP == 1) hwy::Prefetch(reinterpret_cast<const char*>(keys) + kBytesAhead);
      const auto k0 = load_keys<T>(keys), k1 = load_keys<T>(keys + step);
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
      hn::Store(sum[p][r][0], dt, scores + r * kStripKeys<T> + p * width);
      hn::Store(sum[p][r][1], dt, scores + r * kStripKeys<T> + p * width + step);
    }
  }
}

template <int kN, int kP, class T, class Stored>
void score_panels_of_strip(const T* HWY_RESTRICT q, const Stored* HWY_RESTRICT k, std::int64_t d, std::int64_t panels,
                           T* HWY_RESTRICT scores) {
  constexpr int kApart = kP > 1 && sizeof(Stored) < sizeof(T) ? 2 : 1;
  const std::int64_t keys = 2 * lanes<T>(), size = panel_size<T, Stored>(d);
  std::int64_t p = 0;
  for (; p + kP * kApart <= panels; p += kP * kApart) {
    for (std::int64_t n = p; n < p + kApart; ++n) score_panels<kN, kP, kApart>(q, k + n * size, d, scores + n * keys);
  }
  for (; p < panels; ++p) score_panels<kN, 1, 1>(q, k + p * size, d, scores + p * keys);
}

template <class T, class Stored>
void score_few_of(const T* q, const T* packed, std::int64_t d, std::int64_t rows, std::int64_t panels, T* scores) {
  const auto* k = reinterpret_cast<const Stored*>(packed);
  switch (rows) {
    case 1: return score_panels_of_strip<1, 4>(q, k, d, panels, scores);
    case 2: return score_panels_of_strip<2, 1>(q, k, d, panels, scores);
    case 3: return score_panels_of_strip<3, 1>(q, k, d, panels, scores);
    default: return score_panels_of_strip<4, 1>(q, k, d, panels, scores);
  }
}

template <class Stored>
void use_halves_of(Kernels<float>& table) {
  table.key_depth = half_depth;
  table.pack_panel = pack_panel_of<Stored>;
  table.score_strip = score_halves<Stored>;
  table.score_few = score_few_of<float, Stored>;
}

// Nothing for f16 where no instruction of the processor widens it: a dozen of others cost more than the bytes.
inline void use_halves(Kernels<float>& table, DType dtype) {
  if (dtype == DType::kBF16) use_halves_of<hwy::bfloat16_t>(table);
#if HWY_MAX_BYTES >= 32 || HWY_ARCH_ARM_A64
  if (dtype == DType::kF16) use_halves_of<hwy::float16_t>(table);
#endif
}

}  // namespace ag::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
