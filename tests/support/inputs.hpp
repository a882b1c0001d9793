// SPDX-License-Identifier: Apache-2.0
// A case in words, and the tensors and the problem made from it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "core/problem.hpp"
#include "oracle.hpp"
#include "random.hpp"
#include "tensor.hpp"

namespace ag::test {

enum class MaskKind { kNone, kBool, kAdditive };
enum class GivenLse { kNone, kBaseE, kBase2 };
enum class Storage { kRowMajor, kTokensOutside, kDimensionOutside, kReversed, kUnaligned, kPadded };

struct Case {
  std::string name;
  std::uint64_t seed = 42;
  DType dtype = DType::kF32;
  std::int64_t batch = 1, query_heads = 1, key_heads = 1, queries = 48, keys = 80, head_dim = 32;
  double spread = 2;  // standard deviation of the scores before outliers
  std::optional<double> scale{};
  double softcap = 0;
  std::vector<double> alibi{};  // [Hq] slopes, halved from one batch to the next
  double threshold = 0.02;
  std::int64_t top_k = 0;
  double mass = 0;
  bool causal = false;
  std::int64_t query_offset = 0, window = 0;
  std::vector<std::int64_t> key_lengths{};
  MaskKind mask = MaskKind::kNone;
  DType mask_dtype = DType::kF32;
  std::array<bool, 4> mask_broadcast{};  // over batch, head, query, key
  bool sinks = false;
  GivenLse lse = GivenLse::kNone;
  double lse_shift = 0;  // above 0: the keys at hand are a part of those that the logsumexp was taken over
  std::int64_t query_begin = 0, query_end = 0;  // both 0: all
  std::vector<std::int64_t> heads{};            // empty: all
  Storage storage = Storage::kRowMajor;
  StatsRequest stats{};
};

inline std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name << " (seed " << c.seed << ")";
}

inline Layout layout_of(Storage storage) {
  switch (storage) {
    case Storage::kRowMajor: return {};
    case Storage::kTokensOutside: return {.order = {0, 2, 1, 3}};
    case Storage::kDimensionOutside: return {.order = {3, 1, 0, 2}, .gap = 3};
    case Storage::kReversed: return {.reversed = true};
    case Storage::kUnaligned: return {.misalignment = 1};
    case Storage::kPadded: return {.gap = 5};
  }
  return {};
}

// Queries and keys whose softmax is not flat: some keys are long, some queries look for one key. Scores stay within
// +-45, so that weights are held to the 2e-5 that the contract gives for scores up to 50.
class QkValues {
 public:
  QkValues(const Case& c, double scale) {
    Random random(c.seed);
    const auto size = [&](std::int64_t heads, std::int64_t n) {
      return static_cast<std::size_t>(c.batch * heads * n * c.head_dim);
    };
    q = random.normals(size(c.query_heads, c.queries));
    k = random.normals(size(c.key_heads, c.keys));
    const auto dim = static_cast<std::size_t>(c.head_dim);
    for (double& x : q) x *= c.spread;
    for (std::size_t n = 0; n < k.size() / dim; ++n) {
      if (random.below(16) != 0) continue;
      for (std::size_t d = 0; d < dim; ++d) k[n * dim + d] *= 2.5;
    }
    for (std::size_t n = 0; n < q.size() / dim; ++n) {
      if (k.empty() || random.below(6) != 0) continue;
      const auto key = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(k.size() / dim)));
      for (std::size_t d = 0; d < dim; ++d) q[n * dim + d] += k[key * dim + d];
    }
    double largest = 0;
    for (std::size_t i = 0; i < q.size() / dim; ++i) {
      for (std::size_t j = 0; j < k.size() / dim; ++j) {
        double s = 0;
        for (std::size_t d = 0; d < dim; ++d) s += q[i * dim + d] * k[j * dim + d];
        largest = std::max(largest, std::abs(s * scale));
      }
    }
    if (largest > 45) {
      for (double& x : q) x *= 45 / largest;
    }
  }
  std::vector<double> q, k;
};

class Inputs {
 public:
  explicit Inputs(const Case& c) : Inputs(c, c.scale.value_or(1 / std::sqrt(static_cast<double>(c.head_dim)))) {}
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;

  const Problem& problem() const { return problem_; }
  Problem& problem() { return problem_; }
  Tensor& q() { return q_; }
  Tensor& k() { return k_; }
  bool untouched() const {
    return q_.untouched() && k_.untouched() &&
           std::all_of(others_.begin(), others_.end(), [](const Tensor& t) { return t.untouched(); });
  }

 private:
  Inputs(const Case& c, double scale) : Inputs(c, scale, QkValues(c, scale)) {}
  Inputs(const Case& c, double scale, const QkValues& values)
      : q_(c.dtype, {c.batch, c.query_heads, c.queries, c.head_dim}, values.q, layout_of(c.storage)),
        k_(c.dtype, {c.batch, c.key_heads, c.keys, c.head_dim}, values.k, layout_of(c.storage)) {
    others_.reserve(3);  // views point into them
    problem_.q = q_.view();
    problem_.k = k_.view();
    problem_.scale = scale;
    problem_.softcap = c.softcap;
    for (std::int64_t b = 0; b < c.batch && !c.alibi.empty(); ++b) {
      for (const double slope : c.alibi) problem_.alibi.push_back(std::ldexp(slope, -static_cast<int>(b)));
    }
    problem_.selection = {c.threshold, c.top_k, c.mass, 0};
    problem_.stats = c.stats;
    problem_.mask.causal = c.causal;
    problem_.mask.query_offset = c.query_offset;
    problem_.mask.window = c.window;
    problem_.mask.key_lengths = c.key_lengths;
    problem_.query_begin = c.query_begin;
    problem_.query_end = c.query_begin == 0 && c.query_end == 0 ? c.queries : c.query_end;
    problem_.heads = c.heads;
    if (c.heads.empty()) {
      for (std::int64_t h = 0; h < c.query_heads; ++h) problem_.heads.push_back(h);
    }
    problem_.layer = 3;
    Random random(c.seed + 1);
    if (c.mask != MaskKind::kNone) add_mask(c, random);
    if (c.sinks) {
      std::vector<double> logits = random.normals(static_cast<std::size_t>(c.batch * c.query_heads));
      problem_.sinks = others_.emplace_back(DType::kF32, std::vector{c.batch, c.query_heads}, logits).view();
    }
    if (c.lse != GivenLse::kNone) add_lse(c);
  }

  // About a third of the pairs masked; row 2 sees nothing. Additive: -inf or the lowest finite value where masked.
  void add_mask(const Case& c, Random& random) {
    std::array<std::int64_t, 4> shape{c.batch, c.query_heads, c.queries, c.keys};
    for (std::size_t d = 0; d < 4; ++d) shape[d] = c.mask_broadcast[d] ? 1 : shape[d];
    const bool additive = c.mask == MaskKind::kAdditive;
    std::vector<double> values;
    for (std::int64_t n = 0; n < shape[0] * shape[1] * shape[2] * shape[3]; ++n) {
      const bool masked = random.below(3) == 0 || (shape[2] > 2 && n / shape[3] % shape[2] == 2);
      const double lowest = n % 2 == 0 ? -HUGE_VAL : lowest_of(c.mask_dtype);
      values.push_back(additive ? (masked ? lowest : random.normal()) : (masked ? 0 : 1));
    }
    const std::vector<std::int64_t> sizes(shape.begin(), shape.end());
    TensorView view = others_.emplace_back(additive ? c.mask_dtype : DType::kBool, sizes, values).view();
    const std::array<std::int64_t, 4> full{c.batch, c.query_heads, c.queries, c.keys};
    for (std::size_t d = 0; d < 4; ++d) {
      if (c.mask_broadcast[d]) view.strides[d] = 0;
      view.shape[d] = full[d];
    }
    problem_.mask.tensor = view;
  }

  // As an attention kernel stores it: float, +inf for a row without keys.
  void add_lse(const Case& c) {
    const double unit = c.lse == GivenLse::kBase2 ? std::numbers::ln2 : 1.0;
    std::vector<double> values;
    for (std::int64_t b = 0; b < c.batch; ++b) {
      for (std::int64_t h = 0; h < c.query_heads; ++h) {
        for (std::int64_t i = 0; i < c.queries; ++i) {
          const auto lse = static_cast<double>(exact_row(problem_, b, h, i).logsumexp);
          values.push_back(std::isinf(lse) ? HUGE_VAL : (lse + c.lse_shift) / unit);
        }
      }
    }
    problem_.logsumexp =
        others_.emplace_back(DType::kF32, std::vector{c.batch, c.query_heads, c.queries}, values).view();
    problem_.logsumexp_unit = unit;
  }

  Tensor q_, k_;
  std::vector<Tensor> others_;
  Problem problem_;
};

}  // namespace ag::test
