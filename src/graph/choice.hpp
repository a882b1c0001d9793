// SPDX-License-Identifier: Apache-2.0
// A Part made ready to be asked edge by edge.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "operations.hpp"

namespace ag {

class Choice {
 public:
  // kNotFound when a layer, a head or a pair of them is not in the graph; kArgument for a distance between queries and
  // keys that are different sequences.
  Choice(const EdgeList& graph, const Part& part);

  bool wants_slice(const SliceId& id) const;
  // Rows [begin, end) of the slice.
  std::int64_t first_row(const SliceInfo& slice) const {
    return part_.has_query_range()
               ? std::clamp<std::int64_t>(part_.query_begin - slice.query_begin, 0, slice.query_count)
               : 0;
  }
  std::int64_t end_row(const SliceInfo& slice) const {
    return part_.has_query_range() ? std::clamp<std::int64_t>(part_.query_end - slice.query_begin, 0, slice.query_count)
                                   : slice.query_count;
  }
  // Where a query stands: among the keys, or, when these are another sequence, among the queries.
  std::int64_t position_of_query(std::int64_t query) const { return position_of(query, offset_); }
  bool wants_query(std::int64_t position) const { return allows(queries_, position); }
  bool wants_edge(std::int64_t position, std::int64_t key, double weight) const {
    if (!(weight >= cut_)) return false;
    if (plain_) return true;
    const std::int64_t distance = position - key;
    return key >= key_begin_ && key < key_end_ && distance >= part_.distance_min && distance <= part_.distance_max &&
           allows(keys_, key);
  }

 private:
  // Positions that are listed; all where none is.
  struct Positions {
    bool any = false;
    std::vector<bool> listed;
  };
  static Positions positions(const std::vector<std::int64_t>& list);
  static bool allows(const Positions& positions, std::int64_t position) {
    if (!positions.any) return true;
    return position >= 0 && position < static_cast<std::int64_t>(positions.listed.size()) &&
           positions.listed[static_cast<std::size_t>(position)];
  }

  const Part& part_;
  std::int64_t offset_;
  double cut_;
  std::int64_t key_begin_, key_end_;
  bool plain_;  // the weight decides alone
  Positions queries_, keys_;
};

}  // namespace ag
