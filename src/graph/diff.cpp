// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "operations.hpp"
#include "threshold_fact.hpp"

namespace ag {
namespace {

// One row: edges [begin, end) of the flat arrays.
struct RowRef {
  std::int64_t query = 0, begin = 0, end = 0;
};

using RowsById = std::map<SliceId, std::vector<std::size_t>>;  // places in EdgeList::slices

RowsById slices_by_id(const EdgeList& graph) {
  RowsById out;
  for (std::size_t n = 0; n < graph.slices.size(); ++n) out[graph.slices[n].info.id].push_back(n);
  return out;
}

// All rows of one (batch, layer, head), however many slices they came in, by query.
std::vector<RowRef> rows_by_query(const EdgeList& graph, const std::vector<std::size_t>& slices) {
  std::vector<RowRef> rows;
  for (const std::size_t n : slices) {
    const Slice& slice = graph.slices[n];
    const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
    for (std::int64_t r = 0; r < slice.info.query_count; ++r)
      rows.push_back({slice.info.query_begin + r, slice.first_edge + offsets[r], slice.first_edge + offsets[r + 1]});
  }
  const auto earlier = [](const RowRef& x, const RowRef& y) { return x.query < y.query; };
  if (!std::is_sorted(rows.begin(), rows.end(), earlier)) std::stable_sort(rows.begin(), rows.end(), earlier);
  return rows;
}

class EdgeComparison {
 public:
  EdgeComparison(const EdgeList& a, const EdgeList& b, double band) : a_(a), b_(b), band_(band) {
    out_.edges_a = a.edge_count();
    out_.edges_b = b.edge_count();
    const std::optional<double> t_a = threshold_fact(a.metadata), t_b = threshold_fact(b.metadata);
    if (t_a || t_b) threshold_ = std::max(t_a.value_or(0), t_b.value_or(0));
  }

  Difference run() {
    const RowsById in_a = slices_by_id(a_), in_b = slices_by_id(b_);
    const std::vector<std::size_t> none;
    auto at_a = in_a.begin();
    auto at_b = in_b.begin();
    while (at_a != in_a.end() || at_b != in_b.end()) {
      const bool has_a = at_a != in_a.end() && (at_b == in_b.end() || at_a->first <= at_b->first);
      const bool has_b = at_b != in_b.end() && (at_a == in_a.end() || at_b->first <= at_a->first);
      const SliceId id = has_a ? at_a->first : at_b->first;
      out_.slices_only_a += has_b ? 0 : 1;
      out_.slices_only_b += has_a ? 0 : 1;
      compare_slices(id, has_a ? at_a->second : none, has_b ? at_b->second : none);
      if (has_a) ++at_a;
      if (has_b) ++at_b;
    }
    return out_;
  }

 private:
  void compare_slices(const SliceId& id, const std::vector<std::size_t>& in_a, const std::vector<std::size_t>& in_b) {
    const std::vector<RowRef> rows_a = rows_by_query(a_, in_a), rows_b = rows_by_query(b_, in_b);
    std::size_t n = 0, m = 0;
    while (n < rows_a.size() || m < rows_b.size()) {
      const bool has_a = n < rows_a.size() && (m == rows_b.size() || rows_a[n].query <= rows_b[m].query);
      const bool has_b = m < rows_b.size() && (n == rows_a.size() || rows_b[m].query <= rows_a[n].query);
      const RowRef row_a = has_a ? rows_a[n++] : RowRef{};
      const RowRef row_b = has_b ? rows_b[m++] : RowRef{};
      compare_rows(id, has_a ? row_a.query : row_b.query, row_a, row_b);
    }
  }

  // Keys ascend in both: a merge.
  void compare_rows(const SliceId& id, std::int64_t query, const RowRef& row_a, const RowRef& row_b) {
    std::int64_t e = row_a.begin, f = row_b.begin;
    while (e < row_a.end || f < row_b.end) {
      const std::int64_t key_a = e < row_a.end ? a_.keys[static_cast<std::size_t>(e)] : kNoKey;
      const std::int64_t key_b = f < row_b.end ? b_.keys[static_cast<std::size_t>(f)] : kNoKey;
      if (key_a == key_b) {
        compare_weights(a_.weight(e++), b_.weight(f++));
      } else if (key_a < key_b) {
        only_in_one({id, query, key_a, a_.weight(e++)}, true);
      } else {
        only_in_one({id, query, key_b, b_.weight(f++)}, false);
      }
    }
  }

  void compare_weights(double w_a, double w_b) {
    out_.common += 1;
    const double larger = std::max(std::fabs(w_a), std::fabs(w_b));
    if (larger > 0) out_.max_weight_difference = std::max(out_.max_weight_difference, std::fabs(w_a - w_b) / larger);
  }

  void only_in_one(const Edge& edge, bool in_a) {
    if (threshold_ && std::fabs(edge.weight / *threshold_ - 1) <= band_) {
      out_.inside_band += 1;
      return;
    }
    (in_a ? out_.only_a : out_.only_b) += 1;
    if (out_.first) return;
    out_.first = edge;
    out_.first_in_a = in_a;
  }

  static constexpr std::int64_t kNoKey = std::numeric_limits<std::int64_t>::max();

  const EdgeList& a_;
  const EdgeList& b_;
  double band_;
  std::optional<double> threshold_;
  Difference out_;
};

}  // namespace

Difference diff(const EdgeList& a, const EdgeList& b, double band) { return EdgeComparison(a, b, band).run(); }

}  // namespace ag
