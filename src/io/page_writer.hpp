// SPDX-License-Identifier: Apache-2.0
// The viewer's page: one HTML file that holds a graph and everything that shows it, and asks the network for nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "graph_file.hpp"

namespace ag {

// More edges than this are more than a browser can be asked to hold.
inline constexpr std::int64_t kMostPageEdges = 60'000'000;

// The page, whole. The same graph gives the same bytes.
std::string page_of(const EdgeList& graph);

// Collects a graph and writes its page in finish(). kLimit when it has more than kMostPageEdges edges.
std::unique_ptr<GraphSink> open_page_writer(const std::string& path);

}  // namespace ag
