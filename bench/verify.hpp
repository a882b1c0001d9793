// SPDX-License-Identifier: Apache-2.0
// An answer is checked before it is timed: some of its rows against the reference backend on the same tensors.
#pragma once

#include <attngraph/attngraph.hpp>
#include <cstdint>

namespace ag::bench {

// What selects the edges, as far as it matters to where two right answers may differ.
struct Rule {
  double threshold = 0;
  std::int64_t top_k = 0;
  double mass = 0;
};

// Throws std::runtime_error naming the first wrong row. Rows: the first, the last and some between, of every slice.
// `context` runs the reference: one of the CPU, and tensors in host memory.
void check_extract(attngraph::context& context, const attngraph::tensor& q, const attngraph::tensor& k,
                   const attngraph::options& how, const Rule& rule, const attngraph::result& answer);
// Likewise; a ready matrix leaves no room for differences.
void check_filter(attngraph::context& context, const attngraph::tensor& weights, const attngraph::options& how,
                  const attngraph::result& answer);

}  // namespace ag::bench
