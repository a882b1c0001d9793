// SPDX-License-Identifier: Apache-2.0
// What changed between two graphs, head by head and pair by pair. Only kept weights are known: figures of all attention
// come as bounds, and unknown weights count as what moved least.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "edge_list.hpp"

namespace ag {

struct HeadDifference {
  SliceId id;
  std::int64_t queries = 0;  // that both graphs have, with keys
  std::int64_t edges_a = 0, edges_b = 0, common = 0;
  double kept_a = 0, kept_b = 0;                  // means over those queries, and so are the rest
  double variation_min = 0, variation_max = 0;    // total variation
  double divergence_min = 0, divergence_max = 0;  // Jensen-Shannon, nats
};

struct Moved {
  SliceId id;
  std::int64_t query = -1, key = -1;      // in a; -1: not there
  std::int64_t query_b = -1, key_b = -1;  // in b
  double before = 0, after = 0;           // NaN: no edge
  double change = 0;                      // where a weight is not known, the smallest there can have been
};

// For every position in a where it is in b, ascending, -1 where it is not; empty: the same positions.
using Alignment = std::span<const std::int64_t>;

// By the (batch, layer, head) that both have, in order. kShape when they have none in common, when one of them is in
// several query ranges, or for an alignment of another length than a's positions; kArgument when it does not ascend.
std::vector<HeadDifference> diff_heads(const EdgeList& a, const EdgeList& b, Alignment alignment);

// The n that moved most, ties in table order.
std::vector<Moved> diff_pairs(const EdgeList& a, const EdgeList& b, Alignment alignment, std::int64_t n);

// The longest common subsequence of texts: for every one of a its place in b, or -1 (Myers 1986). kLimit when more than
// `limit` texts differ: memory grows with the square.
std::vector<std::int64_t> align(std::span<const std::string> a, std::span<const std::string> b,
                                std::int64_t limit = 5000);

}  // namespace ag
