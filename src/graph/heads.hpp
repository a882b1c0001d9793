// SPDX-License-Identifier: Apache-2.0
// One line of figures for every slice, of all its attention and not of its edges.
#pragma once

#include <cstdint>
#include <vector>

#include "edge_list.hpp"

namespace ag {

// Shares are of all attention: of softmax weights, mass over the number of rows that have keys, so that what a sink
// takes is nobody's; of a ready matrix, mass over the sum of its weights. NaN: what it is made from was not asked for.
struct HeadFigures {
  SliceId id;
  std::int64_t queries = 0;  // rows that have keys
  std::int64_t edges = 0;
  double kept_mass = 0;            // mean over those rows
  double entropy = 0;              // likewise, nats
  double self_share = 0;           // on the query's own position, from the distances
  double previous_share = 0;       // on the one before it
  double window_share = 0;         // on keys nearer than the window, on either side
  double mean_distance = 0;        // of |position - key|
  double first_share = 0;          // on key 0, from the columns
  std::int64_t heaviest_key = -1;  // the key that receives most, the first among equals; -1: not known
  double heaviest_share = 0;
  double punctuation_share = 0;  // on keys whose token is punctuation; NaN without tokens
  double induction_share = 0;    // on the key after an earlier copy of the query's token
  double duplicate_share = 0;    // on other copies of it
  double same_word_share = 0;    // on other tokens of the query's word
};

// In order of the slices.
std::vector<HeadFigures> heads(const EdgeList& graph, std::int64_t window);

}  // namespace ag
