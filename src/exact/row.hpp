// SPDX-License-Identifier: Apache-2.0
// One row of a problem as the definition has it, for the stored inputs: which keys weigh exactly the same, and whether
// a weight reaches the threshold. Answers are proven; the arithmetic grows until they are (docs/numerics.md).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "../core/problem.hpp"
#include "real.hpp"

namespace ag::exact {

enum class Answer { kNo, kYes, kUnknown };

class RowOracle {
 public:
  // `poll` is called now and then, and may throw.
  explicit RowOracle(const Problem& problem, std::function<void()> poll = {});

  // The row to be asked about, all of it finite or, where the problem says so, skipped.
  void open(std::int64_t batch, std::int64_t head, std::int64_t query);

  // The keys that the query may see, ascending.
  std::span<const std::int32_t> keys() const { return keys_; }
  // What the mask tensor and the distance add to keys()[n], rounded twice; and a bound on the size of both.
  bool has_biases() const { return !masks_.empty() || slope_ != 0; }
  double bias(std::size_t n) const { return mask(n) + alibi(n); }
  double bias_size(std::size_t n) const { return std::abs(mask(n)) + std::abs(alibi(n)); }
  // The row's query, promoted.
  std::span<const double> query() const { return query_; }
  double sink() const { return sink_; }               // -inf: none
  double given_logsumexp() const { return stored_; }  // as stored; 0 without one

  // All terms of the row's denominator when every one of them, the sink's too, is exactly the same; otherwise, and
  // with a given logsumexp, 0.
  std::int64_t equal_terms();
  // Whether the weight of keys()[n] is at least the threshold. kUnknown: 2^14 bits do not tell.
  Answer reaches(std::size_t n, double threshold);
  // The weight of keys()[n], to double's precision.
  double weight(std::size_t n);
  // Whether keys()[a] comes before keys()[b] in the order of selections: its score is larger, or the same and its key
  // smaller.
  bool precedes(std::size_t a, std::size_t b);
  // Whether the weights of keys()[n], n in `heaviest`, sum to at least `mass`. They are a prefix in that order.
  Answer sum_reaches(std::span<const std::size_t> heaviest, double mass);

 private:
  // q . k of one key: hi + lo, exactly when `exact`.
  struct Dot {
    double hi = 0;
    double lo = 0;
    bool exact = false;
    bool known = false;
    std::int32_t whole = -1;  // its place in wholes_, if it had to be made
  };

  const double* load_key(std::int64_t j);
  Dot dot(std::int64_t j);
  const Dot& dot_of(std::size_t n);
  bool same_key(std::size_t a, std::size_t b) const;
  Real whole_dot(std::size_t n);
  // Softcap not applied: scale * dot.
  Real scaled_dot(std::size_t n);
  Ball score(std::size_t n, int bits);
  bool same_score(std::size_t a, std::size_t b);
  bool equals_sink(std::size_t n);
  double mask(std::size_t n) const { return masks_.empty() ? 0.0 : masks_[n]; }
  double alibi(std::size_t n) const { return slope_ == 0 ? 0.0 : alibi_bias(slope_, position_, keys_[n]); }
  std::int64_t distance(std::size_t n) const { return slope_ == 0 ? 0 : std::abs(position_ - keys_[n]); }
  Real whole_bias(std::size_t n) const;
  bool same_bias(std::size_t a, std::size_t b) const;
  void measure_dots();
  // The denominator's terms over e^(score of n), each known to `bits`: visit(key's place, or none for the sink, term).
  // False: one of them alone is larger than any threshold allows.
  template <class Visit>
  bool for_each_term(std::size_t n, int bits, Visit&& visit);
  // Sign of threshold * (denominator / e^score) - 1, or 0.
  int sign_among_keys(std::size_t n, double threshold, int bits);
  // How many terms of the denominator are exactly that of keys()[n], itself among them.
  std::int64_t terms_equal_to(std::size_t n);
  bool equals_stay_below(std::span<const std::size_t> heaviest, double mass);
  Ball given_logsumexp_ball(int bits) const;
  int sign_of_sum(std::span<const std::size_t> heaviest, double mass, int bits);
  // When equality is possible: the sum's sign against the mass, exactly; nothing otherwise.
  std::optional<bool> sum_of_equals_reaches(std::span<const std::size_t> heaviest, double mass);
  int sign_of_given(std::size_t n, double threshold, int bits);
  Answer reaches_given(std::size_t n, double threshold);

  const Problem& p_;
  std::function<void()> poll_;
  std::int64_t batch_ = 0, head_ = 0, row_ = 0;
  std::vector<double> query_, key_;
  bool zero_query_ = false;
  std::vector<std::int32_t> keys_;
  std::vector<double> masks_;  // what the mask tensor adds; empty without one
  double slope_ = 0;           // of distances, and where the query stands
  std::int64_t position_ = 0;
  double sink_ = 0;
  double stored_ = 0;
  std::vector<Dot> dots_;  // of keys_, those that were needed
  std::vector<Real> wholes_;
  Ball total_;  // of the last sign_among_keys(): the denominator over e^score
  std::optional<std::int64_t> equal_terms_;
};

}  // namespace ag::exact
