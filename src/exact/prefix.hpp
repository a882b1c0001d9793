// SPDX-License-Identifier: Apache-2.0
// What a backend's weights tell of a selection with top-k or mass, when each is known up to a factor of e^+-band: which
// keys are chosen for certain, and what is left to find out.
#pragma once

#include <cstdint>
#include <vector>

#include "../core/problem.hpp"

namespace ag::exact {

// The selection that a backend is asked with: what the true one leaves is among its answer, and something beside it to
// be compared with. Weights are probabilities unless a logsumexp is given.
Selection relaxed(const Selection& selection, bool given_logsumexp);

enum class Prefix {
  kSure,   // `chosen` is the answer
  kOrder,  // so it is with the `count` heaviest of `doubtful`
  kRow,    // the whole row has to be looked at
};

struct PrefixAnswer {
  Prefix prefix = Prefix::kRow;
  std::vector<std::size_t> chosen;    // places in the row as the backend gave it
  std::vector<std::size_t> doubtful;  // likewise, ascending
  std::size_t count = 0;
};

class PrefixFinder {
 public:
  PrefixFinder(const Selection& selection, bool given_logsumexp)
      : selection_(selection), asked_(relaxed(selection, given_logsumexp)) {}
  // `weights` of a row, as a backend made them for relaxed(selection).
  const PrefixAnswer& find(const float* weights, std::size_t count, double band);

 private:
  double above(std::size_t n) const;
  double below(std::size_t n) const;
  bool is_complete() const;

  const Selection selection_, asked_;
  std::vector<double> heavy_;       // the weights, heaviest first
  std::vector<std::size_t> order_;  // where they stand in the row
  double factor_ = 1;               // what a weight may be off by
  double sum_ = 0;
  PrefixAnswer answer_;
};

}  // namespace ag::exact
