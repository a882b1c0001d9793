// SPDX-License-Identifier: Apache-2.0
// One head in the terminal: a heat map of queries and keys, then its strongest links.
#pragma once

#include <attngraph/attngraph.hpp>
#include <string>

namespace attngraph::cli {

std::string draw_head(const result& graph, std::int64_t slice, int width, bool colour);

}  // namespace attngraph::cli
