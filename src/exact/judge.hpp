// SPDX-License-Identifier: Apache-2.0
// Decides pairs that a backend left open: in double with a bound, and what is left of them by the oracle.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "../core/problem.hpp"
#include "row.hpp"

namespace ag::exact {

class RowJudge {
 public:
  explicit RowJudge(const Problem& problem);

  // The row. `poll` is called now and then until the row is closed by the next open().
  void open(std::int64_t batch, std::int64_t head, std::int64_t query, const std::function<void()>& poll);

  std::span<const std::int32_t> keys() const { return oracle_.keys(); }

  // Whether each of `keys`, all of them keys(), is an edge. Returns how many could not be told; those are no edges.
  std::int64_t decide(std::span<const std::int32_t> keys, std::vector<char>& is_edge);
  // The keys that the problem's selection leaves, ascending. Returns how many decisions could not be told.
  std::int64_t select(std::vector<std::int32_t>& chosen);
  // Which of `keys` are the `count` heaviest of them.
  void heaviest_of(std::span<const std::int32_t> keys, std::size_t count, std::vector<char>& is_edge);
  // Of one of keys().
  double weight(std::int32_t key);

 private:
  std::size_t place_of(std::int32_t key) const;
  bool precedes(std::size_t a, std::size_t b);
  // All scores of the row in double, and their sum: once a row, when they are asked for.
  void measure();
  void sum_up();
  // The `count` heaviest of the places come first, in any order; those that double cannot order are compared exactly.
  void bring_heaviest_forward(std::vector<std::size_t>& order, std::size_t count);
  // The length of the shortest prefix of `order` that reaches the mass; `most` when it is no shorter than that.
  std::size_t mass_prefix(std::vector<std::size_t>& order, std::size_t most, std::int64_t& unknown);
  // Of the computed ln(weight) of keys()[n].
  double margin_error(std::size_t n) const;
  double margin_error(double size) const;  // of any whose score is no larger than `size`
  std::int64_t ask_oracle(std::span<const std::size_t> open, std::span<const std::size_t> places,
                          std::vector<char>& is_edge);

  const Problem& p_;
  std::function<void()> poll_;
  RowOracle oracle_;
  std::int64_t batch_ = 0, head_ = 0;
  bool measured_ = false;
  std::int64_t compared_ = 0;
  std::vector<double> key_;     // one whose values do not lie side by side
  std::vector<double> scores_;  // of keys()
  std::vector<double> terms_;   // e^(score - reference_), or with a given logsumexp the weight
  double score_error_ = 0;      // of every score
  double largest_ = 0;          // |score|
  double reference_ = 0;        // the logsumexp is reference + rest
  double rest_ = 0;
};

}  // namespace ag::exact
