// SPDX-License-Identifier: Apache-2.0
// One graph out of several: query ranges, decoding steps, layers, shards.
#pragma once

#include <cstdint>
#include <span>

#include "edge_list.hpp"

namespace ag {

// Query i of the graph is query_begin + i of the whole, key j is key_begin + j.
struct JoinPart {
  const EdgeList* graph = nullptr;
  std::int64_t query_begin = 0;
  std::int64_t key_begin = 0;
};

// Slices of the same (batch, layer, head) become one, their query ranges one after the other; a slice has as many keys
// as the longest of its parts. Reports add up. Sums over queries add up where all parts have them, and are unknown
// otherwise. Facts are those of the first graph, tokens those of the last that has any. kShape when query ranges
// overlap or leave a gap.
EdgeList join(std::span<const JoinPart> parts);

}  // namespace ag
