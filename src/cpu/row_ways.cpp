// SPDX-License-Identifier: Apache-2.0
#include "row_ways.hpp"

#include <algorithm>
#include <cmath>

#include "band.hpp"
#include "pairs.hpp"

namespace ag::cpu {
namespace {

// Beyond it an intermediate product in float could overflow.
constexpr double kFloatLimit = 1e30;

}  // namespace

RowWays::RowWays(const Job& job)
    : job_(job), float_(kernels<float>()), pairs_(product_kernels<float>(job.plan.product, job.problem.k.dtype)) {}

std::span<RowPlan> RowWays::choose(const RowSpan& span, const KeySlot& slot, const Poll& poll) {
  const Problem& p = job_.problem;
  const std::int64_t batch = slot.group->batch;
  rows_.resize(static_cast<std::size_t>(span.count()));
  for (std::int64_t r = 0; r < span.count(); ++r) {
    if (r % 4096 == 0) poll();
    RowPlan& row = rows_[static_cast<std::size_t>(r)];
    const KeyRange keys = p.mask.range(batch, span.query(r), p.keys());
    row.query_norm = row_norm_(p.q, batch, span.head(r), span.query(r));
    row.key_norm = slot.facts.key_norm_before(keys.end);
    if (p.kept != nullptr && !std::isnan(row.query_norm))
      require_range(job_, *slot.group, row.query_norm, row.key_norm);
    row.way = way_of(row.query_norm, row.key_norm, keys.size());
  }
  return rows_;
}

Way RowWays::way_of(double query_norm, double key_norm, std::int64_t keys) const {
  const Problem& p = job_.problem;
  if (p.q.dtype == DType::kF64) return Way::kDouble;
  if (std::isnan(query_norm)) return Way::kFloat;  // it has no edges
  BandInput band_input;
  band_input.head_dim = p.head_dim();
  band_input.keys = keys;
  band_input.score_bound = std::abs(p.scale) * query_norm * key_norm;
  band_input.key_bound = key_norm;
  band_input.softcap = p.softcap;
  band_input.sum_roundings = float_.sum_roundings;
  band_input.score_roundings = float_.score_roundings(p.head_dim());
  if (band<float>(band_input) > kWidestBand || key_norm > kFloatLimit ||
      query_norm * std::max(1.0, std::abs(job_.query_factor())) > kFloatLimit) {
    return Way::kDouble;
  }
  // The same for pairs: their band, and sums that hold products of values which nothing has scaled.
  if (job_.plan.product == Product::kFloat || query_norm * key_norm > kFloatLimit) return Way::kFloat;
  band_input.score_roundings = pairs_.score_roundings(p.head_dim());
  band_input.flush = flush_bound(pairs_, p.head_dim(), p.scale, job_.query_factor(), query_norm, key_norm);
  return band<float>(band_input) <= kWidestBand ? Way::kPairs : Way::kFloat;
}

}  // namespace ag::cpu
