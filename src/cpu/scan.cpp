// SPDX-License-Identifier: Apache-2.0
#include "scan.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "../core/edge_rule.hpp"
#include "kernels.hpp"

namespace ag::cpu {
namespace {

// Beyond it an intermediate product of the double kernel could overflow.
constexpr double kScoreLimit = 1e300;

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

double KeyFacts::key_norm_before(std::int64_t end) const {
  const auto after =
      std::partition_point(longest.begin(), longest.end(), [end](const LongKey& k) { return k.key < end; });
  return after == longest.begin() ? 0.0 : std::prev(after)->norm;
}

void KeyFacts::truncate(std::int64_t count) {
  while (!longest.empty() && longest.back().key >= count) longest.pop_back();
  while (!bad_keys.empty() && bad_keys.back() >= count) bad_keys.pop_back();
  key_count = std::min(key_count, count);
}

void scan_keys(const TensorView& k, std::int64_t batch, std::int64_t key_head, std::int64_t end, Nonfinite nonfinite,
               const Poll& poll, KeyFacts& facts) {
  RowNorm row_norm;
  for (std::int64_t j = facts.key_count; j < end; ++j) {
    if (j % 4096 == 0) poll();
    const double norm = row_norm(k, batch, key_head, j);
    if (std::isnan(norm)) {
      if (nonfinite == Nonfinite::kError) fail_nonfinite(k, "k", batch, key_head, j);
      facts.bad_keys.push_back(j);
    } else if (norm > facts.key_norm()) {
      facts.longest.push_back({j, norm});
    }
  }
  facts.key_count = std::max(facts.key_count, end);
}

void require_range(const Job& job, const Group& group, double query_norm, double key_norm) {
  const Problem& p = job.problem;
  const double bound = std::abs(p.scale) * query_norm * key_norm;
  const double product = query_norm * key_norm;
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
}

KeyFacts scan_group(const Job& job, const Group& group, const Poll& poll) {
  const Problem& p = job.problem;
  KeyFacts facts;
  scan_keys(p.k, group.batch, group.key_head, p.mask.key_count(group.batch, p.keys()), p.nonfinite, poll, facts);
  // All queries of the heads, not only those of the range: an error must not depend on how rows are split into calls.
  RowNorm row_norm;
  double query_norm = 0;
  for (const std::int64_t h : group.heads) {
    for (std::int64_t i = 0; i < p.queries(); ++i) {
      if (i % 4096 == 0) poll();
      const double norm = row_norm(p.q, group.batch, h, i);
      if (!std::isnan(norm)) query_norm = std::max(query_norm, norm);
    }
  }
  require_range(job, group, query_norm, facts.key_norm());
  return facts;
}

}  // namespace ag::cpu
