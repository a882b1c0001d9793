// SPDX-License-Identifier: Apache-2.0
// Random problems made to be hard: ties, near ties, thresholds that are a weight or its neighbour, and every pair of
// options.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "support/random.hpp"
#include "support/tensor.hpp"
#include "wide.hpp"

namespace ag::test {

class Drawn {
 public:
  // ties: small whole numbers, thresholds 1 / m.
  explicit Drawn(std::uint64_t seed, bool ties = false) : random_(seed) {
    dtype_ = pick(DType::kF32, DType::kF16, DType::kBF16, DType::kF64);
    key_heads_ = 1 + one_in(4);
    heads_ = key_heads_ * (1 + one_in(3));
    queries_ = 1 + random_.below(4);
    keys_ = 1 + random_.below(pick(4, 12, 40));
    dim_ = 1 + random_.below(pick(3, 20, 70));
    kind_ = ties ? 1 + random_.below(2) : random_.below(5);
    q_.emplace(dtype_, shape(heads_, queries_, dim_), values(heads_ * queries_ * dim_));
    k_.emplace(dtype_, shape(key_heads_, keys_, dim_), key_values());
    problem.q = q_->view();
    problem.k = k_->view();
    for (std::int64_t h = 0; h < heads_; ++h) problem.heads.push_back(h);
    problem.query_end = queries_;
    problem.scale =
        ties ? pick(1.0, 0.5, 0.0, -2.0) : pick(1 / std::sqrt(static_cast<double>(dim_)), 1.0, -0.37, 0.0, 3.0);
    if (one_in(5)) problem.softcap = pick(0.5, 1.0, 20.0, 50.0);
    problem.mask.causal = one_in(3);
    problem.mask.query_offset = pick(keys_ - queries_, std::int64_t{0}, random_.below(9) - 4);
    if (one_in(5)) problem.mask.window = 1 + random_.below(6);
    if (one_in(6)) problem.mask.key_lengths = {random_.below(keys_ + 1)};
    draw_mask(ties);
    if (one_in(4)) draw_alibi(ties);
    const bool sinks = one_in(5), lse = !sinks && one_in(4);
    if (sinks) {
      sinks_.emplace(DType::kF32, std::vector<std::int64_t>{1, heads_}, tie_values(heads_, ties));
      problem.sinks = sinks_->view();
    }
    problem.stats = {one_in(2), one_in(4), one_in(4)};
    if (lse) draw_logsumexp();
    draw_threshold(ties);
  }

  // The problem with top-k, a mass or both, with or without its threshold.
  void draw_selection() {
    Selection& s = problem.selection;
    const bool by_k = one_in(2), by_mass = !by_k || one_in(3);
    if (one_in(2)) s.threshold = 0;
    if (by_k) s.top_k = 1 + random_.below(pick(3, 8, 40));
    if (!by_mass) return;
    s.mass = pick(0.5, 0.9, 0.99, 1.0, 1e-3);
    if (one_in(3))
      s.mass = static_cast<double>(1 + random_.below(keys_)) / static_cast<double>(keys_ + random_.below(2));
    if (one_in(3)) {  // what the first keys of a row weigh together
      const WideRow row = wide_row(problem, 0, random_.below(heads_), random_.below(queries_));
      std::vector<Wide> weights = row.weight;
      std::sort(weights.rbegin(), weights.rend());
      Wide sum = 0;
      for (std::int64_t n = random_.below(keys_) + 1; n > 0 && !weights.empty(); --n) {
        sum += weights[0];
        weights.erase(weights.begin());
      }
      s.mass = static_cast<double>(sum);
    }
    if (one_in(3)) s.mass = std::nextafter(s.mass, pick(0.0, 2.0));
    if (!(s.mass > 0 && s.mass <= 1)) s.mass = 0.75;
  }

  Problem problem;

 private:
  bool one_in(std::int64_t n) { return random_.below(n) == 0; }
  template <class... T>
  std::common_type_t<T...> pick(T... values) {
    const std::common_type_t<T...> list[] = {values...};
    return list[static_cast<std::size_t>(random_.below(sizeof...(values)))];
  }
  static std::vector<std::int64_t> shape(std::int64_t heads, std::int64_t rows, std::int64_t d) {
    return {1, heads, rows, d};
  }

  double value() {
    switch (kind_) {
      case 1: return static_cast<double>(random_.below(5) - 2);
      case 2: return static_cast<double>(random_.below(3) - 1) * pick(1.0, 0.5, 3.0);
      case 3: return 0.75 + std::ldexp(random_.normal(), -static_cast<int>(random_.below(24)));
      case 4: return random_.normal() * pick(1.0, 8.0, 1e-3);
      default: return random_.normal();
    }
  }
  std::vector<double> values(std::int64_t n) {
    std::vector<double> out(static_cast<std::size_t>(n));
    for (double& x : out) x = value();
    return out;
  }
  // Often a key is one that was there before, so that scores are equal.
  std::vector<double> key_values() {
    std::vector<double> out = values(key_heads_ * keys_ * dim_);
    const auto d = static_cast<std::size_t>(dim_);
    for (std::size_t row = 1; row < out.size() / d; ++row) {
      if (kind_ == 0 || !one_in(2)) continue;
      const auto from = static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(row)));
      std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(from * d), d,
                  out.begin() + static_cast<std::ptrdiff_t>(row * d));
    }
    return out;
  }
  std::vector<double> tie_values(std::int64_t n, bool ties) {
    std::vector<double> out(static_cast<std::size_t>(n));
    for (double& x : out)
      x = ties ? static_cast<double>(random_.below(3) - 1) : pick(random_.normal() * 2, 0.0, -HUGE_VAL);
    return out;
  }

  void draw_mask(bool ties) {
    if (!one_in(3)) return;
    const bool additive = one_in(2);
    std::vector<double> entries(static_cast<std::size_t>(queries_ * keys_));
    for (double& x : entries) {
      x = additive    ? pick(0.0, ties ? 1.0 : random_.normal(), ties ? -1.0 : 3 * random_.normal(), -HUGE_VAL)
          : one_in(4) ? 0.0
                      : 1.0;
      if (additive && one_in(40)) x = -1e9;
    }
    mask_.emplace(additive ? pick(DType::kF32, DType::kF64) : DType::kBool,
                  std::vector<std::int64_t>{1, 1, queries_, keys_}, entries);
    problem.mask.tensor = mask_->view();
    problem.mask.tensor.shape[1] = heads_;
    problem.mask.tensor.strides[1] = 0;
  }

  // Slopes of the heads; whole ones among ties, so that a distance may make up for a product.
  void draw_alibi(bool ties) {
    for (std::int64_t h = 0; h < heads_; ++h) {
      problem.alibi.push_back(ties ? pick(1.0, 0.5, 0.0, -1.0)
                                   : pick(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(heads_)),
                                          random_.normal(), 0.0, 1e-3, 40.0));
    }
  }

  // That of the row, of more keys, and of fewer: then weights may be above 1.
  void draw_logsumexp() {
    const bool base_2 = one_in(2);
    std::vector<double> out;
    for (std::int64_t h = 0; h < heads_; ++h) {
      for (std::int64_t i = 0; i < queries_; ++i) {
        const WideRow row = wide_row(problem, 0, h, i);
        double l = row.keys.empty() ? -HUGE_VAL : static_cast<double>(row.logsumexp) + pick(0.0, 0.7, -1.5, 3.0);
        if (base_2) l /= std::log(2.0);
        if (one_in(6)) l = std::round(l);
        out.push_back(l);
      }
    }
    lse_.emplace(pick(DType::kF64, DType::kF32), std::vector<std::int64_t>{1, heads_, queries_}, out);
    problem.logsumexp = lse_->view();
    problem.logsumexp_unit = base_2 ? std::log(2.0) : 1.0;
  }

  // A plain one, 1 / m, or a weight of the problem: rounded, and its neighbours.
  void draw_threshold(bool ties) {
    double t = pick(0.02, 0.3, 1e-6, 0.5);
    if (ties || one_in(3)) t = 1.0 / static_cast<double>(1 + random_.below(keys_ + 1));
    if (!ties && one_in(3)) {
      const WideRow row = wide_row(problem, 0, random_.below(heads_), random_.below(queries_));
      if (!row.keys.empty())
        t = static_cast<double>(
            row.weight[static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(row.keys.size())))]);
    }
    if (one_in(3)) t = std::nextafter(t, pick(0.0, 2.0));
    problem.selection.threshold = t > 0 && t <= 1 ? t : 0.1;
  }

  Random random_;
  DType dtype_{};
  std::int64_t key_heads_ = 1, heads_ = 1, queries_ = 1, keys_ = 1, dim_ = 1, kind_ = 0;
  std::optional<Tensor> q_, k_, mask_, sinks_, lse_;
};

}  // namespace ag::test
