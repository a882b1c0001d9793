// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "../graph/edge_list.hpp"

namespace ag {

// A graph from the lines of a CSV or JSONL table, which carries edges and nothing else.
EdgeList read_table(const std::string& path, bool json);

}  // namespace ag
