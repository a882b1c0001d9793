// SPDX-License-Identifier: Apache-2.0
// The definition in 113-bit arithmetic, shared with no part of the library: what random problems are held against.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/problem.hpp"
#include "support/oracle.hpp"

namespace ag::test {

#if defined(__SIZEOF_FLOAT128__)
__extension__ using Wide = __float128;
#else
using Wide = long double;
#endif

inline Wide abs_of(Wide x) { return x < 0 ? -x : x; }

// e^x - 1 by halving the argument until a short series will do; right to some 100 bits for |x| < 800.
inline Wide expm1_of(Wide x) {
  if (x > 11000) return HUGE_VAL;
  if (x < -11000) return -1;
  int halvings = 0;
  for (Wide size = abs_of(x); size > Wide(1) / 64; size /= 2) ++halvings;
  const Wide small = x / static_cast<Wide>(std::int64_t{1} << halvings);
  Wide term = 1, rest = 0;
  for (int n = 1; n <= 24; ++n) {
    term *= small / n;
    rest += term;
  }
  for (int n = 0; n < halvings; ++n) rest = rest * (rest + 2);
  return rest;
}

inline Wide exp_of(Wide x) { return x < 0 ? 1 / (1 + expm1_of(-x)) : 1 + expm1_of(x); }

inline Wide log_of(Wide x) {
  Wide y = static_cast<Wide>(std::log(static_cast<long double>(x)));
  for (int n = 0; n < 3; ++n) y += x / exp_of(y) - 1;
  return y;
}

inline Wide tanh_of(Wide x) {
  if (abs_of(x) > 80) return x < 0 ? -1 : 1;
  const Wide less = expm1_of(-2 * abs_of(x));
  const Wide size = -less / (2 + less);
  return x < 0 ? -size : size;
}

struct WideRow {
  std::vector<std::int32_t> keys;  // allowed
  std::vector<Wide> score, weight;
  std::vector<Wide> raw;   // before the softcap, which 113 bits may round to its cap
  std::vector<Wide> bias;  // of the mask tensor and the distance; empty without either
  bool has_sink = false;
  Wide sink = 0;
  Wide logsumexp = 0;
  // Every term of the denominator is the same. Scores before the softcap say so: seed 594 has -103.5 and -110.2 under a
  // softcap of 1, both -1 in 113 bits, and no tie by the definition; wide_decision leaves such pairs open.
  bool equal = false;
};

inline WideRow wide_row(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t i) {
  WideRow row;
  if (!row_is_finite(p.q, b, h, i)) return row;
  const std::int64_t key_head = p.key_head_of(h);
  double stored = 0;
  if (p.logsumexp) stored = load_double(p.logsumexp.dtype, p.logsumexp.at(b, h, i));
  if (std::isinf(stored)) return row;
  for (std::int64_t j = 0; j < p.keys(); ++j) {
    if (!is_key_allowed(p, b, h, i, j) || !row_is_finite(p.k, b, key_head, j)) continue;
    Wide s = 0;
    for (std::int64_t d = 0; d < p.head_dim(); ++d) {
      s += static_cast<Wide>(load_double(p.q.dtype, p.q.at(b, h, i, d))) *
           static_cast<Wide>(load_double(p.k.dtype, p.k.at(b, key_head, j, d)));
    }
    s *= static_cast<Wide>(p.scale);
    row.raw.push_back(s);
    if (p.softcap > 0) s = static_cast<Wide>(p.softcap) * tanh_of(s / static_cast<Wide>(p.softcap));
    if (p.mask.tensor || !p.alibi.empty()) {
      Wide bias =
          p.mask.tensor ? static_cast<Wide>(mask_bias(p.mask.tensor.dtype, p.mask.tensor.at(b, h, i, j))) : Wide(0);
      if (!p.alibi.empty()) {
        bias -= static_cast<Wide>(p.alibi[static_cast<std::size_t>(b * p.query_heads() + h)]) *
                static_cast<Wide>(std::abs(i + p.mask.query_offset - j));
      }
      row.bias.push_back(bias);
      s += bias;
    }
    row.keys.push_back(static_cast<std::int32_t>(j));
    row.score.push_back(s);
  }
  const double sink = p.sinks ? load_double(p.sinks.dtype, p.sinks.at(b, h)) : -HUGE_VAL;
  row.has_sink = std::isfinite(sink);
  row.sink = row.has_sink ? static_cast<Wide>(sink) : 0;
  if (row.keys.empty()) return row;
  if (p.logsumexp) {
    const Wide unit = p.logsumexp_unit == 1.0 ? Wide(1) : log_of(2);
    row.logsumexp = static_cast<Wide>(stored) * unit;
    for (const Wide s : row.score) row.weight.push_back(exp_of(s - row.logsumexp));
    return row;
  }
  Wide top = row.has_sink ? row.sink : row.score[0];
  for (const Wide s : row.score) top = s > top ? s : top;
  Wide sum = row.has_sink ? exp_of(row.sink - top) : 0;
  row.equal = !row.has_sink || (row.sink == row.score[0] && (p.softcap == 0 || row.raw[0] == 0));
  for (std::size_t n = 0; n < row.score.size(); ++n) {
    sum += exp_of(row.score[n] - top);
    row.equal = row.equal && row.score[n] == row.score[0] && (p.softcap == 0 || row.raw[n] == row.raw[0]);
  }
  row.logsumexp = top + log_of(sum);
  for (const Wide s : row.score) row.weight.push_back(exp_of(s - top) / sum);
  return row;
}

// 1: weight n is at least t, -1: it is not, 0: 113 bits do not tell.
inline int wide_decision(const Problem& p, const WideRow& row, std::size_t n, double t) {
  if (t <= 0) return 1;
  const auto terms = static_cast<Wide>(row.keys.size()) + (row.has_sink ? 1 : 0);
  if (row.equal) return terms * static_cast<Wide>(t) <= 1 ? 1 : -1;
  if (!p.logsumexp && t >= 1) return -1;
  if (p.logsumexp && row.score[n] == row.logsumexp) return t <= 1 ? 1 : -1;
  const Wide off = row.weight[n] / static_cast<Wide>(t) - 1;
  // Scores of s are known to s 2^-113; a few more operations come on top.
  const Wide unsure = static_cast<Wide>(0x1p-90) * (1 + abs_of(row.score[n]) + abs_of(row.logsumexp));
  return off > unsure ? 1 : off < -unsure ? -1 : 0;
}

// Which keys of the row the problem's selection leaves, in order; nothing when 113 bits do not tell.
inline std::optional<std::vector<std::int32_t>> wide_selection(const Problem& p, const WideRow& row) {
  const Selection& selection = p.selection;
  const std::size_t m = row.keys.size();
  const auto unsure = [&](std::size_t n) {
    return static_cast<Wide>(0x1p-90) * (1 + abs_of(row.score[n]) + abs_of(row.logsumexp));
  };
  const auto bias_of = [&](std::size_t n) { return row.bias.empty() ? Wide(0) : row.bias[n]; };
  const auto same = [&](std::size_t a, std::size_t b) {
    if (row.raw[a] == row.raw[b] && bias_of(a) == bias_of(b)) return true;
    return p.softcap == 0 && row.score[a] == row.score[b];
  };
  // Under a softcap that 113 bits round to its cap, the scores before it have the order.
  const auto heavier = [&](std::size_t a, std::size_t b) {
    if (same(a, b)) return a < b;
    if (bias_of(a) == bias_of(b)) return row.raw[a] > row.raw[b];
    return row.score[a] > row.score[b];
  };
  std::vector<std::size_t> order(m);
  for (std::size_t n = 0; n < m; ++n) order[n] = n;
  std::sort(order.begin(), order.end(), heavier);
  std::size_t count = m;
  if (selection.top_k > 0) count = std::min(count, static_cast<std::size_t>(selection.top_k));
  if (selection.threshold > 0) {
    std::size_t reach = 0;
    for (std::size_t n = 0; n < m; ++n) {
      const int right = wide_decision(p, row, n, selection.threshold);
      if (right == 0) return std::nullopt;
      reach += right > 0;
    }
    count = std::min(count, reach);
  }
  if (selection.mass > 0 && (selection.mass < 1 || p.logsumexp)) {
    const auto mass = static_cast<Wide>(selection.mass);
    const auto terms = static_cast<Wide>(m) + (row.has_sink ? 1 : 0);
    Wide sum = 0;
    for (std::size_t n = 0; n < count; ++n) {
      sum += row.weight[order[n]];
      const Wide off = row.equal ? static_cast<Wide>(n + 1) - mass * terms : sum / mass - 1;
      if (!row.equal && abs_of(off) <= unsure(order[n])) return std::nullopt;
      if (off >= 0) {
        count = n + 1;
        break;
      }
    }
  }
  if (count > 0 && count < m) {
    const std::size_t a = order[count - 1], b = order[count];
    const bool by_raw = bias_of(a) == bias_of(b);
    const Wide apart = by_raw ? row.raw[a] - row.raw[b] : row.score[a] - row.score[b];
    if (!same(a, b) && apart <= static_cast<Wide>(0x1p-90) * (1 + abs_of(row.raw[a]) + abs_of(row.score[a])))
      return std::nullopt;
  }
  std::vector<std::int32_t> keys;
  for (std::size_t n = 0; n < count; ++n) keys.push_back(row.keys[order[n]]);
  std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace ag::test
