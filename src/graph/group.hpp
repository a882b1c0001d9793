// SPDX-License-Identifier: Apache-2.0
// Words and sentences in place of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "edge_list.hpp"

namespace ag {

struct Spans {
  enum class Rest { kError, kDrop, kOwn };  // what becomes of positions in no span

  std::vector<std::int64_t> begins, ends;  // positions [begin, end), ascending, apart from each other
  Rest rest = Rest::kError;
  std::vector<std::string> labels;  // one for every span, or none: the tokens of the span
};

// The weight of span -> span is the sum over the keys of the one and the mean over those queries of the other that have
// keys. Kept mass likewise, less what was kept on positions that are dropped. Weights are f64. kArgument for spans that
// overlap, skip a position or go beyond the graph.
EdgeList group(const EdgeList& graph, const Spans& spans);

}  // namespace ag
