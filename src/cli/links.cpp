// SPDX-License-Identifier: Apache-2.0
#include "links.hpp"

#include <algorithm>

namespace attngraph::cli {

std::optional<std::int64_t> own_position(const result& graph) {
  return graph.two_sided() ? std::nullopt : std::optional(graph.query_offset());
}

void add_links(const slice& s, std::optional<std::int64_t> query_offset, std::size_t n, std::vector<edge>& heaviest) {
  const auto heavier = [](const edge& a, const edge& b) { return a.weight > b.weight; };
  s.each_edge([&](std::int64_t query, std::int64_t key, double weight) {
    if (key == 0 || (query_offset && key == query + *query_offset) || n == 0) return;
    if (heaviest.size() == n && !(weight > heaviest.back().weight)) return;
    const edge link{s.batch, s.layer, s.head, query, key, weight};
    heaviest.insert(std::upper_bound(heaviest.begin(), heaviest.end(), link, heavier), link);
    if (heaviest.size() > n) heaviest.pop_back();
  });
}

}  // namespace attngraph::cli
