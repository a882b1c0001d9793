// SPDX-License-Identifier: Apache-2.0
// Top-k and mass selection among a row's candidates, the same text for every host backend.
#pragma once

#include <cstdint>
#include <vector>

#include "problem.hpp"

namespace ag {

struct RowEdge {
  double weight;  // probability in double, before it is rounded for storage
  std::int32_t key;
};

// Cut `edges` (the row's keys whose weight reaches the threshold, or more) to what top_k and mass leave, then order by
// key. The order of preference is weight descending, key ascending, so both conditions are prefixes and their
// intersection is the shorter one.
void select_row(const Selection& selection, std::vector<RowEdge>& edges);

// No key below this weight can be in the smallest set that reaches `mass` among m keys: all such keys together weigh
// less than 1 - mass.
double mass_cut(double mass, std::int64_t m);

}  // namespace ag
