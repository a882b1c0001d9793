// SPDX-License-Identifier: Apache-2.0
#include "sgemm_tiles.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#if ATTNGRAPH_HAS_OPENBLAS
#include <cblas.h>
#endif

// As src/cpu/kernels.cpp, so that both sides use the same instruction set.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "peers/sgemm_tiles.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h: these are what it compiles again and again.
#include <hwy/highway.h>

#include "cpu/exp2-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace ag::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Takes `width` base-2 scores into sum == sum 2^(x - maximum).
void add_to_row(const float* x, std::int64_t width, float* maximum, double* sum) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  auto top0 = hn::Set(d, *maximum), top1 = top0;
  std::int64_t j = 0;
  for (; j + 2 * step <= width; j += 2 * step) {
    top0 = hn::Max(top0, hn::LoadU(d, x + j));
    top1 = hn::Max(top1, hn::LoadU(d, x + j + step));
  }
  float top = hn::GetLane(hn::MaxOfLanes(d, hn::Max(top0, top1)));
  for (std::int64_t i = j; i < width; ++i) top = std::max(top, x[i]);
  if (top > *maximum) {
    *sum *= std::exp2(static_cast<double>(*maximum) - static_cast<double>(top));
    *maximum = top;
  }
  const auto reference = hn::Set(d, top);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  for (j = 0; j + 2 * step <= width; j += 2 * step) {
    sum0 = hn::Add(sum0, cpu::HWY_NAMESPACE::Exp2(d, hn::Sub(hn::LoadU(d, x + j), reference)));
    sum1 = hn::Add(sum1, cpu::HWY_NAMESPACE::Exp2(d, hn::Sub(hn::LoadU(d, x + j + step), reference)));
  }
  *sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1))));
  for (; j < width; ++j) *sum += std::exp2(static_cast<double>(x[j] - top));
}

// Places in x[0, width) of scores that reach the cut.
std::int64_t find_at_least(const float* x, std::int64_t width, float cut, std::int32_t* places) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  const auto limit = hn::Set(d, cut);
  std::int64_t found = 0, j = 0;
  for (; j + step <= width; j += step) {
    if (hn::AllFalse(d, hn::Ge(hn::LoadU(d, x + j), limit))) continue;
    for (std::int64_t i = j; i < j + step; ++i) {
      if (x[i] >= cut) places[found++] = static_cast<std::int32_t>(i);
    }
  }
  for (; j < width; ++j) {
    if (x[j] >= cut) places[found++] = static_cast<std::int32_t>(j);
  }
  return found;
}

}  // namespace ag::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ag::bench {

HWY_EXPORT(add_to_row);
HWY_EXPORT(find_at_least);

#if ATTNGRAPH_HAS_OPENBLAS

namespace {

// One block of rows against one tile of keys, in base-2 logarithms.
struct Tile {
  std::int64_t first_row, rows, first_key, keys;
};

}  // namespace

SgemmAnswer sgemm_extract(const float* q, const float* k, std::int64_t n, std::int64_t d, double scale,
                          double threshold, bool causal, const SgemmTiles& tiles) {
  const auto idx = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  const auto factor = static_cast<float>(scale * 1.442695040888963407360);
  std::vector<float> scores(idx(tiles.rows * tiles.keys));
  std::vector<float> maximum(idx(tiles.rows)), cut(idx(tiles.rows));
  std::vector<double> sum(idx(tiles.rows));
  std::vector<std::int32_t> places(idx(tiles.keys));
  std::vector<std::vector<std::int32_t>> row_keys(idx(tiles.rows));
  std::vector<std::vector<float>> row_weights(idx(tiles.rows));
  SgemmAnswer answer;
  answer.offsets.reserve(idx(n + 1));
  answer.offsets.push_back(0);

  // visit(r, scores of row first_row + r, width, first_key)
  const auto for_all_rows = [&](const Tile& t, auto&& visit) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(t.rows), static_cast<int>(t.keys),
                static_cast<int>(d), factor, q + t.first_row * d, static_cast<int>(d), k + t.first_key * d,
                static_cast<int>(d), 0.0f, scores.data(), static_cast<int>(t.keys));
    for (std::int64_t r = 0; r < t.rows; ++r) {
      const std::int64_t width = causal ? std::min(t.keys, t.first_row + r + 1 - t.first_key) : t.keys;
      if (width > 0) visit(r, scores.data() + r * t.keys, width, t.first_key);
    }
  };
  for (std::int64_t first_row = 0; first_row < n; first_row += tiles.rows) {
    const std::int64_t rows = std::min(tiles.rows, n - first_row);
    const std::int64_t visible = causal ? first_row + rows : n;
    const auto for_all_tiles = [&](auto&& visit) {
      for (std::int64_t key = 0; key < visible; key += tiles.keys)
        for_all_rows({first_row, rows, key, std::min(tiles.keys, visible - key)}, visit);
    };
    std::fill(maximum.begin(), maximum.end(), -std::numeric_limits<float>::infinity());
    std::fill(sum.begin(), sum.end(), 0.0);
    for_all_tiles([&](std::int64_t r, const float* x, std::int64_t width, std::int64_t) {
      HWY_DYNAMIC_DISPATCH(add_to_row)(x, width, &maximum[idx(r)], &sum[idx(r)]);
    });
    for (std::int64_t r = 0; r < rows; ++r) {
      cut[idx(r)] = static_cast<float>(static_cast<double>(maximum[idx(r)]) + std::log2(sum[idx(r)] * threshold));
      row_keys[idx(r)].clear();
      row_weights[idx(r)].clear();
    }
    for_all_tiles([&](std::int64_t r, const float* x, std::int64_t width, std::int64_t first_key) {
      const std::int64_t found = HWY_DYNAMIC_DISPATCH(find_at_least)(x, width, cut[idx(r)], places.data());
      for (std::int64_t e = 0; e < found; ++e) {
        const std::int32_t place = places[idx(e)];
        row_keys[idx(r)].push_back(static_cast<std::int32_t>(first_key) + place);
        row_weights[idx(r)].push_back(
            static_cast<float>(std::exp2(static_cast<double>(x[place] - maximum[idx(r)])) / sum[idx(r)]));
      }
    });
    for (std::int64_t r = 0; r < rows; ++r) {
      answer.keys.insert(answer.keys.end(), row_keys[idx(r)].begin(), row_keys[idx(r)].end());
      answer.weights.insert(answer.weights.end(), row_weights[idx(r)].begin(), row_weights[idx(r)].end());
      answer.offsets.push_back(static_cast<std::int64_t>(answer.keys.size()));
    }
  }
  return answer;
}

std::string openblas_kernel() { return openblas_get_corename(); }

#else

SgemmAnswer sgemm_extract(const float*, const float*, std::int64_t, std::int64_t, double, double, bool,
                          const SgemmTiles&) {
  throw std::runtime_error("this build has no OpenBLAS; install libopenblas-dev and configure again");
}
std::string openblas_kernel() { return ""; }

#endif

}  // namespace ag::bench
#endif
