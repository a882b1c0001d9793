// SPDX-License-Identifier: Apache-2.0
// Attention on keys that the tokens single out: the same token, the one after it, the rest of a word. Such pairs are
// few, so their weights are computed one by one, in double, from the row's logsumexp, after whatever backend found it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../core/control.hpp"
#include "../core/problem.hpp"
#include "../core/row_block.hpp"

namespace ag {

// Of every key position; a query has the ids of the position where it stands. Negative: none.
struct TokenIds {
  std::vector<std::vector<std::int64_t>> tokens;  // one list of [Nk] for all batch elements, or one for each
  std::vector<std::vector<std::int64_t>> words;   // likewise; empty: not known
};

// Adds SliceSums::tokens to the slices on their way to `next`. The problem, the ids and `next` must outlive it. Calls
// control.poll() while it works, with the fraction told last. The sums do not depend on the number of threads.
std::unique_ptr<RowSink> with_token_sums(const Problem& problem, const TokenIds& ids, int threads, Control& control,
                                         RowSink& next);
std::unique_ptr<RowSink> with_token_sums(const MatrixProblem& problem, const TokenIds& ids, int threads,
                                         Control& control, RowSink& next);

}  // namespace ag
