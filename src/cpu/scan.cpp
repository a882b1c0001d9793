// SPDX-License-Identifier: Apache-2.0
#include "scan.hpp"

#include <algorithm>
#include <cmath>

#include "../core/edge_rule.hpp"
#include "band.hpp"
#include "kernels.hpp"
#include "pairs.hpp"

namespace ag::cpu {
namespace {

// Beyond it an intermediate product of the double kernel could overflow.
constexpr double kScoreLimit = 1e300;
// Beyond it a float could.
constexpr double kFloatLimit = 1e30;

}  // namespace

double RowNorm::operator()(const TensorView& tensor, std::int64_t b, std::int64_t h, std::int64_t n) {
  const std::int64_t d = tensor.shape[3];
  if (tensor.dtype != DType::kF64) {
    row_f32_.resize(static_cast<std::size_t>(d));
    kernels<float>().unpack_row(tensor.at(b, h, n), tensor.dtype, tensor.strides[3], d, row_f32_.data());
    const double squared = kernels<float>().squared_norm(row_f32_.data(), d);
    return std::isfinite(squared) ? std::sqrt(squared) : NAN;  // the square of a finite float is finite in double
  }
  row_f64_.resize(static_cast<std::size_t>(d));
  kernels<double>().unpack_row(tensor.at(b, h, n), tensor.dtype, tensor.strides[3], d, row_f64_.data());
  const double squared = kernels<double>().squared_norm(row_f64_.data(), d);
  if (std::isfinite(squared)) return std::sqrt(squared);
  double norm = 0;  // finite values whose squares are not, or values that are not
  for (const double x : row_f64_) {
    if (!std::isfinite(x)) return NAN;
    norm = std::hypot(norm, x);
  }
  return norm;
}

void fail_nonfinite(const TensorView& tensor, const char* name, std::int64_t b, std::int64_t h, std::int64_t n) {
  std::int64_t d = 0;
  while (std::isfinite(load_double(tensor.dtype, tensor.at(b, h, n, d)))) ++d;
  fail(Status::kNonfinite,
       "{} holds {} at batch {}, head {}, position {}, dimension {}; clean the input or ask to skip such positions",
       name, load_double(tensor.dtype, tensor.at(b, h, n, d)), b, h, n, d);
}

HeadFacts scan_group(const Job& job, const Group& group, const Poll& poll) {
  const Problem& p = job.problem;
  RowNorm row_norm;
  HeadFacts facts;
  facts.key_count = p.mask.key_count(group.batch, p.keys());
  for (std::int64_t j = 0; j < facts.key_count; ++j) {
    if (j % 4096 == 0) poll();
    const double norm = row_norm(p.k, group.batch, group.key_head, j);
    if (!std::isnan(norm)) {
      facts.key_norm = std::max(facts.key_norm, norm);
      continue;
    }
    if (p.nonfinite == Nonfinite::kError) fail_nonfinite(p.k, "k", group.batch, group.key_head, j);
    facts.bad_keys.push_back(j);
  }
  // All queries of the heads, not only those of the range: the precision must not depend on how rows are split into
  // calls.
  double query_norm = 0;
  for (const std::int64_t h : group.heads) {
    for (std::int64_t i = 0; i < p.queries(); ++i) {
      if (i % 4096 == 0) poll();
      const double norm = row_norm(p.q, group.batch, h, i);
      if (!std::isnan(norm)) query_norm = std::max(query_norm, norm);
    }
  }

  const double bound = std::abs(p.scale) * query_norm * facts.key_norm;
  const double product = query_norm * facts.key_norm;
  if (!(bound <= kScoreLimit) || !(product <= kScoreLimit)) {
    fail(Status::kRange, "scores of batch {}, key head {} may reach {:g}; the limit is {:g}: scale down the input",
         group.batch, group.key_head, std::max(bound, product), kScoreLimit);
  }
  if (p.logsumexp && p.softcap == 0 && bound > kMostWithLogsumexp) {
    fail(Status::kRange,
         "scores of batch {}, key head {} may reach {:g}, and lse is given: above {:g} double cannot tell their "
         "weights; "
         "leave lse out, or scale down the input",
         group.batch, group.key_head, bound, kMostWithLogsumexp);
  }
  BandInput band_input;
  band_input.head_dim = p.head_dim();
  band_input.keys = p.keys();
  band_input.score_bound = bound;
  band_input.key_bound = facts.key_norm;
  band_input.softcap = p.softcap;
  band_input.sum_roundings = kernels<float>().sum_roundings;
  band_input.score_roundings = kernels<float>().score_roundings(p.head_dim());
  facts.in_double = p.q.dtype == DType::kF64 || band<float>(band_input) > kWidestBand || facts.key_norm > kFloatLimit ||
                    query_norm * std::max(1.0, std::abs(job.query_factor())) > kFloatLimit;
  // The same for pairs: their band, and sums that hold products of values which nothing has scaled.
  if (job.plan.product != Product::kFloat && !facts.in_double && product <= kFloatLimit) {
    const Kernels<float> pairs = product_kernels<float>(job.plan.product, p.k.dtype);
    band_input.score_roundings = pairs.score_roundings(p.head_dim());
    band_input.flush = flush_bound(pairs, p.head_dim(), p.scale, job.query_factor(), query_norm, facts.key_norm);
    if (band<float>(band_input) <= kWidestBand) facts.product = job.plan.product;
  }
  return facts;
}

}  // namespace ag::cpu
