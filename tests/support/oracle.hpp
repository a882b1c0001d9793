// SPDX-License-Identifier: Apache-2.0
// The definition once more, in long double and shared with no backend: what the reference is held to, and what decides
// whether a pair that two backends see differently stood at a cut.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "core/problem.hpp"
#include "graph/edge_list.hpp"

namespace ag::test {

// All keys of one row. Keys that are not allowed weigh 0.
struct ExactRow {
  std::vector<bool> allowed;
  std::vector<long double> score, weight;
  std::int64_t count = 0;  // allowed keys
  long double logsumexp = -std::numeric_limits<long double>::infinity();
  long double entropy = 0;
};

inline bool is_key_allowed(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  const MaskRules& m = p.mask;
  if (!m.key_lengths.empty() && j >= m.key_lengths[static_cast<std::size_t>(b)]) return false;
  const std::int64_t distance = i + m.query_offset - j;
  if (m.causal && distance < 0) return false;
  if (m.window > 0 && distance >= m.window) return false;
  if (m.window > 0 && !m.causal && -distance >= m.window) return false;
  if (m.tensor && std::isinf(mask_bias(m.tensor.dtype, m.tensor.at(b, h, i, j)))) return false;
  return true;
}

inline bool row_is_finite(const TensorView& t, std::int64_t b, std::int64_t h, std::int64_t n) {
  for (std::int64_t d = 0; d < t.shape[3]; ++d) {
    if (!std::isfinite(load_double(t.dtype, t.at(b, h, n, d)))) return false;
  }
  return true;
}

inline ExactRow exact_row(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t i) {
  const auto keys = static_cast<std::size_t>(p.keys());
  ExactRow row{std::vector<bool>(keys), std::vector<long double>(keys), std::vector<long double>(keys)};
  const std::int64_t key_head = p.key_head_of(h);
  const bool query_is_finite = row_is_finite(p.q, b, h, i);
  long double maximum = -std::numeric_limits<long double>::infinity();
  for (std::int64_t j = 0; j < p.keys(); ++j) {
    const auto n = static_cast<std::size_t>(j);
    row.allowed[n] = query_is_finite && is_key_allowed(p, b, h, i, j) && row_is_finite(p.k, b, key_head, j);
    if (!row.allowed[n]) continue;
    long double s = 0;
    for (std::int64_t d = 0; d < p.head_dim(); ++d) {
      s += static_cast<long double>(load_double(p.q.dtype, p.q.at(b, h, i, d))) *
           static_cast<long double>(load_double(p.k.dtype, p.k.at(b, key_head, j, d)));
    }
    s *= static_cast<long double>(p.scale);
    const auto cap = static_cast<long double>(p.softcap);
    if (cap > 0) s = cap * std::tanh(s / cap);
    if (!p.alibi.empty()) {
      const long double slope = p.alibi[static_cast<std::size_t>(b * p.query_heads() + h)];
      s -= slope * static_cast<long double>(std::abs(i + p.mask.query_offset - j));
    }
    if (p.mask.tensor) s += static_cast<long double>(mask_bias(p.mask.tensor.dtype, p.mask.tensor.at(b, h, i, j)));
    row.score[n] = s;
    maximum = std::max(maximum, s);
    ++row.count;
  }
  const bool has_sink = static_cast<bool>(p.sinks);
  const long double sink = has_sink ? load_double(p.sinks.dtype, p.sinks.at(b, h)) : 0;
  if (p.logsumexp) {
    row.logsumexp = static_cast<long double>(load_double(p.logsumexp.dtype, p.logsumexp.at(b, h, i))) *
                    static_cast<long double>(p.logsumexp_unit);
    if (std::isinf(row.logsumexp)) {
      row.allowed.assign(keys, false);
      row.count = 0;
    }
  }
  if (row.count == 0) {
    row.logsumexp = has_sink && !p.logsumexp ? sink : -std::numeric_limits<long double>::infinity();
    return row;
  }
  if (!p.logsumexp) {
    if (has_sink) maximum = std::max(maximum, sink);
    long double sum = has_sink ? std::exp(sink - maximum) : 0;
    for (std::size_t j = 0; j < keys; ++j) sum += row.allowed[j] ? std::exp(row.score[j] - maximum) : 0;
    row.logsumexp = maximum + std::log(sum);
  }
  for (std::size_t j = 0; j < keys; ++j) {
    if (!row.allowed[j]) continue;
    row.weight[j] = std::exp(row.score[j] - row.logsumexp);
    row.entropy -= row.weight[j] * (row.score[j] - row.logsumexp);
  }
  if (has_sink) row.entropy -= std::exp(sink - row.logsumexp) * (sink - row.logsumexp);
  return row;
}

// The row's allowed keys, heaviest first, ties to the smaller key.
inline std::vector<std::size_t> by_weight(const ExactRow& row) {
  std::vector<std::size_t> order;
  for (std::size_t j = 0; j < row.weight.size(); ++j) {
    if (row.allowed[j]) order.push_back(j);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return row.score[a] > row.score[b]; });
  return order;
}

// Keys of the edges of a row, ascending.
inline std::vector<std::int32_t> exact_edges(const Selection& selection, const ExactRow& row) {
  std::vector<std::int32_t> keys;
  long double mass = 0;
  for (const std::size_t j : by_weight(row)) {
    if (selection.threshold > 0 && row.weight[j] < static_cast<long double>(selection.threshold)) break;
    if (selection.top_k > 0 && static_cast<std::int64_t>(keys.size()) >= selection.top_k) break;
    if (selection.mass > 0 && mass >= static_cast<long double>(selection.mass)) break;
    mass += row.weight[j];
    keys.push_back(static_cast<std::int32_t>(j));
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

// The whole answer, as a backend would give it.
inline EdgeList oracle_extract(const Problem& p) {
  CollectSink sink;
  RunReport report;
  for (std::int64_t b = 0; b < p.batch(); ++b) {
    for (const std::int64_t h : p.heads) {
      sink.begin_slice({{b, p.layer, h}, p.query_begin, p.query_end - p.query_begin, p.keys()}, DType::kF32);
      SliceSums sums;
      if (p.stats.columns) sums.received.resize(static_cast<std::size_t>(p.keys()));
      if (p.stats.distances && p.query_end > p.query_begin && p.keys() > 0) {
        sums.distance_begin = p.query_begin + p.mask.query_offset - (p.keys() - 1);
        sums.distances.resize(static_cast<std::size_t>(p.query_end - p.query_begin + p.keys() - 1));
      }
      for (std::int64_t i = p.query_begin; i < p.query_end; ++i) {
        const ExactRow row = exact_row(p, b, h, i);
        RowStats stats;
        stats.logsumexp = static_cast<double>(row.logsumexp);
        if (p.stats.entropy) stats.entropy = static_cast<double>(row.entropy);
        if (row.count > 0) {
          const std::size_t heaviest = by_weight(row).front();
          stats.maximum = static_cast<double>(row.score[heaviest]);
          stats.max_key = static_cast<std::int32_t>(heaviest);
        }
        const std::vector<std::int32_t> keys = exact_edges(p.selection, row);
        std::vector<float> weights;
        for (const std::int32_t j : keys) {
          weights.push_back(static_cast<float>(row.weight[static_cast<std::size_t>(j)]));
          stats.kept_mass += static_cast<double>(row.weight[static_cast<std::size_t>(j)]);
        }
        for (std::size_t j = 0; j < row.weight.size(); ++j) {
          const auto distance =
              static_cast<std::size_t>(i + p.mask.query_offset - static_cast<std::int64_t>(j) - sums.distance_begin);
          if (p.stats.columns) sums.received[j] += static_cast<double>(row.weight[j]);
          if (p.stats.distances) sums.distances[distance] += static_cast<double>(row.weight[j]);
        }
        report.empty_rows += row.count == 0;
        report.rows_with_keys += row.count > 0;
        report.kept_mass_sum += stats.kept_mass;
        const std::int64_t offsets[] = {0, static_cast<std::int64_t>(keys.size())};
        sink.rows({i, 1, offsets, keys.data(), weights.data(), DType::kF32, RowColumns{stats}.view()});
      }
      sink.end_slice(sums);
    }
  }
  sink.finish(report);
  return sink.take();
}

}  // namespace ag::test
