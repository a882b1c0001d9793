// SPDX-License-Identifier: Apache-2.0
// Edges that tell something about the text.
#pragma once

#include <attngraph/attngraph.hpp>
#include <optional>
#include <vector>

namespace attngraph::cli {

// query_offset of the graph; nothing when a query stands at no key's position.
std::optional<std::int64_t> own_position(const result& graph);

// Adds the slice's edges between different positions, and not to the first, to the n heaviest so far. The first token
// collects the attention that has nowhere to go, so edges to it say little; so do those of a query to itself, which
// stands at query + query_offset. Ties stay in table order.
void add_links(const slice& s, std::optional<std::int64_t> query_offset, std::size_t n, std::vector<edge>& heaviest);

}  // namespace attngraph::cli
