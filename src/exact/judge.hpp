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

  // The row, its scores in double. `poll` is called now and then until the row is closed by the next open().
  void open(std::int64_t batch, std::int64_t head, std::int64_t query, const std::function<void()>& poll);

  std::span<const std::int32_t> keys() const { return oracle_.keys(); }

  // Whether each of `keys`, all of them keys(), is an edge. Returns how many could not be told; those are no edges.
  std::int64_t decide(std::span<const std::int32_t> keys, std::vector<char>& is_edge);
  // Of one of keys().
  double weight(std::int32_t key);

 private:
  std::size_t place_of(std::int32_t key) const;
  void sum_up();
  // Of the computed ln(weight) of keys()[n].
  double margin_error(std::size_t n) const;
  std::int64_t ask_oracle(std::span<const std::size_t> open, std::span<const std::size_t> places,
                          std::vector<char>& is_edge);

  const Problem& p_;
  std::function<void()> poll_;
  RowOracle oracle_;
  std::vector<double> key_;     // one whose values do not lie side by side
  std::vector<double> scores_;  // of keys()
  double score_error_ = 0;      // of every score
  double largest_ = 0;          // |score|
  double reference_ = 0;        // the logsumexp is reference + rest
  double rest_ = 0;
};

}  // namespace ag::exact
