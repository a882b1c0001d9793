// SPDX-License-Identifier: Apache-2.0
#include "moved.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>

#include "../core/error.hpp"
#include "../core/numbers.hpp"
#include "operations.hpp"
#include "threshold_fact.hpp"

namespace ag {
namespace {

constexpr std::int64_t kNoKey = std::numeric_limits<std::int64_t>::max();

// The largest weight that a pair can have and yet be no edge: below the threshold, where all pairs at or above it were
// kept; otherwise only the mass of the row that was not kept bounds it.
double largest_unkept(const Metadata& metadata) {
  for (const char* const selection : {"top_k", "mass", "part", "budget", "head_budget"})
    if (metadata.facts.contains(selection)) return 1;
  return std::min(1.0, threshold_fact(metadata).value_or(1));
}

// The contribution of one outcome to the Jensen-Shannon divergence of two distributions; 0 for (0, 0). Subadditive:
// merging outcomes never makes the sum larger, which is what the bounds rest on.
double divergence(double a, double b) {
  const auto term = [](double w, double sum) { return w > 0 ? w * std::log(2 * w / sum) : 0.0; };
  return (term(a, a + b) + term(b, a + b)) / 2;
}

// One row of both graphs, taken in pair by pair.
struct RowSums {
  double common_rise = 0, common_fall = 0, common_divergence = 0;  // pairs that are edges in both
  double hidden_a = 0, hidden_a_known = 0;  // edges of a alone: all, and of each at most what b may hide there
  double hidden_b = 0, hidden_b_known = 0;
  double gone_a = 0, gone_b = 0;  // edges of a alone on positions that b does not have, and the reverse
};

struct Bounds {
  double low = 0, high = 0;
};

// Total variation is the mass that rises, and the mass that falls. Unknown weights of b hide at most `hidden_a_known`,
// and at most the mass that b did not keep.
Bounds variation(const RowSums& s, double rest_a, double rest_b) {
  const double falls = s.common_fall + s.gone_a + s.hidden_a - std::min(s.hidden_a_known, rest_b);
  const double rises = s.common_rise + s.gone_b + s.hidden_b - std::min(s.hidden_b_known, rest_a);
  const double apart = s.common_fall + s.common_rise + s.gone_a + s.gone_b + s.hidden_a + s.hidden_b + rest_a + rest_b;
  const double high = std::min(1.0, apart / 2);
  return {std::min(std::max({falls, rises, 0.0}), high), high};
}

// Below: everything unknown as one outcome. Above: as outcomes that the graphs do not share.
Bounds divergence(const RowSums& s, double rest_a, double rest_b) {
  const double known = s.common_divergence + divergence(s.gone_a, 0) + divergence(0, s.gone_b);
  const double low = known + divergence(s.hidden_a + rest_a, s.hidden_b + rest_b);
  const double apart = s.hidden_a + s.hidden_b + rest_a + rest_b;
  const double high = std::min(std::numbers::ln2, known + apart * std::numbers::ln2 / 2);
  return {std::clamp(low, 0.0, high), high};
}

class Comparison {
 public:
  Comparison(const EdgeList& a, const EdgeList& b, Alignment alignment)
      : a_(a),
        b_(b),
        offset_a_(query_offset(a.metadata)),
        offset_b_(query_offset(b.metadata)),
        unkept_a_(largest_unkept(a.metadata)),
        unkept_b_(largest_unkept(b.metadata)),
        alignment_(alignment) {
    if (alignment_.empty()) return;
    if (a.metadata.two_sided() || b.metadata.two_sided())
      fail(
          Status::kArgument,
          "queries and keys of these graphs are different sequences, and an alignment is of one; compare them without");
    std::int64_t last = -1;
    for (std::size_t n = 0; n < alignment_.size(); ++n) {
      if (alignment_[n] < -1 || (alignment_[n] >= 0 && alignment_[n] <= last))
        fail(Status::kArgument, "alignment[{}] is {} after {}; positions ascend, or are -1", n, alignment_[n], last);
      last = std::max(last, alignment_[n]);
    }
    back_.assign(idx(last + 1), -1);
    for (std::size_t n = 0; n < alignment_.size(); ++n)
      if (alignment_[n] >= 0) back_[idx(alignment_[n])] = static_cast<std::int64_t>(n);
  }

  // Shows the visitor every slice and row that both graphs have, and the pairs that are edges in one of them.
  template <class Visitor>
  void run(Visitor& visitor) {
    const std::map<SliceId, const Slice*> in_b = by_id(b_, "the second graph");
    bool any = false;
    for (const auto& [id, slice_a] : by_id(a_, "the first graph")) {
      const auto found = in_b.find(id);
      if (found == in_b.end()) continue;
      any = true;
      require_alignment(*slice_a);
      visitor.begin(id);
      compare(*slice_a, *found->second, visitor);
    }
    if (!any && !a_.slices.empty())
      fail(Status::kShape, "the graphs have no (batch, layer, head) in common, so there is nothing to compare");
  }

  std::int64_t to_b(std::int64_t position) const {
    if (alignment_.empty()) return position;
    return position >= 0 && position < static_cast<std::int64_t>(alignment_.size()) ? alignment_[idx(position)] : -1;
  }
  std::int64_t to_a(std::int64_t position) const {
    if (alignment_.empty()) return position;
    return position >= 0 && position < static_cast<std::int64_t>(back_.size()) ? back_[idx(position)] : -1;
  }
  double unkept_a() const { return unkept_a_; }
  double unkept_b() const { return unkept_b_; }

 private:
  static std::map<SliceId, const Slice*> by_id(const EdgeList& graph, const char* which) {
    std::map<SliceId, const Slice*> out;
    for (const Slice& slice : graph.slices) {
      const SliceId& id = slice.info.id;
      if (!out.emplace(id, &slice).second) {
        fail(Status::kShape, "{} has (batch, layer, head) = ({}, {}, {}) in several query ranges; join them first",
             which, id.batch, id.layer, id.head);
      }
    }
    return out;
  }

  void require_alignment(const Slice& slice) const {
    const auto count = static_cast<std::int64_t>(alignment_.size());
    if (count > 0 && count < slice.info.key_count)
      fail(Status::kShape, "the alignment is of {} positions; the first graph has {} keys", count,
           slice.info.key_count);
  }

  template <class Visitor>
  void compare(const Slice& a, const Slice& b, Visitor& visitor) {
    for (std::int64_t r = 0; r < a.info.query_count; ++r) {
      const std::int64_t query_a = a.info.query_begin + r;
      const std::int64_t position = to_b(position_of(query_a, offset_a_));
      if (position < 0) continue;
      const std::int64_t query_b = position - offset_b_, row_b = query_b - b.info.query_begin;
      if (row_b < 0 || row_b >= b.info.query_count) continue;
      const Row of_a = row(a_, a, r), of_b = row(b_, b, row_b);
      if (!of_a.has_keys || !of_b.has_keys) continue;
      visitor.open(query_a, query_b, of_a.rest, of_b.rest);
      merge(of_a, of_b, visitor);
      visitor.close(of_a.kept, of_b.kept);
    }
  }

  struct Row {
    std::int64_t begin = 0, end = 0;
    bool has_keys = false;
    double kept = 0, rest = 0;
  };
  static Row row(const EdgeList& graph, const Slice& slice, std::int64_t r) {
    const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
    const std::size_t at = idx(slice.first_row + r);
    Row out{slice.first_edge + offsets[r], slice.first_edge + offsets[r + 1]};
    out.has_keys = has_keys(graph.rows.maximum[at], graph.rows.max_key[at], offsets[r + 1] - offsets[r]);
    out.kept = graph.rows.kept_mass[at];
    if (std::isnan(out.kept)) {
      out.kept = 0;
      for (std::int64_t e = out.begin; e < out.end; ++e) out.kept += graph.weight(e);
    }
    out.rest = std::max(0.0, 1 - out.kept);
    return out;
  }

  // Keys ascend in both, and the alignment ascends.
  template <class Visitor>
  void merge(const Row& row_a, const Row& row_b, Visitor& visitor) {
    std::int64_t e = row_a.begin, f = row_b.begin;
    while (e < row_a.end || f < row_b.end) {
      const std::int64_t key_a = e < row_a.end ? a_.keys[idx(e)] : kNoKey;
      const std::int64_t at_b = key_a == kNoKey ? kNoKey : to_b(key_a);
      if (at_b < 0) {
        visitor.only_a(key_a, -1, a_.weight(e++));
        continue;
      }
      const std::int64_t key_b = f < row_b.end ? b_.keys[idx(f)] : kNoKey;
      if (at_b == key_b) {
        visitor.both(key_a, key_b, a_.weight(e++), b_.weight(f++));
      } else if (at_b < key_b) {
        visitor.only_a(key_a, at_b, a_.weight(e++));
      } else {
        visitor.only_b(to_a(key_b), key_b, b_.weight(f++));
      }
    }
  }

  const EdgeList& a_;
  const EdgeList& b_;
  const std::int64_t offset_a_, offset_b_;
  const double unkept_a_, unkept_b_;
  Alignment alignment_;
  std::vector<std::int64_t> back_;  // the alignment the other way round
};

class ByHead {
 public:
  explicit ByHead(const Comparison& comparison) : comparison_(comparison) {}
  void begin(const SliceId& id) {
    finish();
    HeadDifference head;
    head.id = id;
    table_.push_back(head);
  }
  void open(std::int64_t, std::int64_t, double rest_a, double rest_b) {
    sums_ = {};
    rest_a_ = rest_a;
    rest_b_ = rest_b;
  }
  void both(std::int64_t, std::int64_t, double a, double b) {
    HeadDifference& head = table_.back();
    head.edges_a += 1;
    head.edges_b += 1;
    head.common += 1;
    (a > b ? sums_.common_fall : sums_.common_rise) += std::abs(a - b);
    sums_.common_divergence += divergence(a, b);
  }
  void only_a(std::int64_t, std::int64_t key_b, double w) {
    table_.back().edges_a += 1;
    if (key_b < 0) {
      sums_.gone_a += w;
    } else {
      sums_.hidden_a += w;
      sums_.hidden_a_known += std::min(w, comparison_.unkept_b());
    }
  }
  void only_b(std::int64_t key_a, std::int64_t, double w) {
    table_.back().edges_b += 1;
    if (key_a < 0) {
      sums_.gone_b += w;
    } else {
      sums_.hidden_b += w;
      sums_.hidden_b_known += std::min(w, comparison_.unkept_a());
    }
  }
  void close(double kept_a, double kept_b) {
    HeadDifference& head = table_.back();
    head.queries += 1;
    head.kept_a += kept_a;
    head.kept_b += kept_b;
    const Bounds v = variation(sums_, rest_a_, rest_b_), d = divergence(sums_, rest_a_, rest_b_);
    head.variation_min += v.low;
    head.variation_max += v.high;
    head.divergence_min += d.low;
    head.divergence_max += d.high;
  }
  std::vector<HeadDifference> take() {
    finish();
    return std::move(table_);
  }

 private:
  // From sums to means; NaN without queries.
  void finish() {
    if (table_.empty()) return;
    HeadDifference& head = table_.back();
    for (double* mean : {&head.kept_a, &head.kept_b, &head.variation_min, &head.variation_max, &head.divergence_min,
                         &head.divergence_max})
      *mean = head.queries > 0 ? *mean / static_cast<double>(head.queries) : kNaN;
  }
  const Comparison& comparison_;
  std::vector<HeadDifference> table_;
  RowSums sums_;
  double rest_a_ = 0, rest_b_ = 0;
};

// By size of the change, ties in table order.
bool moved_more(const Moved& x, const Moved& y) {
  if (std::abs(x.change) != std::abs(y.change)) return std::abs(x.change) > std::abs(y.change);
  if (x.id != y.id) return x.id < y.id;
  if (x.query != y.query) return x.query < y.query;
  return x.key != y.key ? x.key < y.key : x.key_b < y.key_b;
}

class ByPair {
 public:
  ByPair(const Comparison& comparison, std::size_t wanted) : comparison_(comparison), wanted_(wanted) {}
  void begin(const SliceId& id) { at_.id = id; }
  void open(std::int64_t query_a, std::int64_t query_b, double rest_a, double rest_b) {
    at_.query = query_a;
    at_.query_b = query_b;
    unkept_a_ = std::min(comparison_.unkept_a(), rest_a);
    unkept_b_ = std::min(comparison_.unkept_b(), rest_b);
  }
  void both(std::int64_t key_a, std::int64_t key_b, double a, double b) { offer(key_a, key_b, a, b, b - a); }
  void only_a(std::int64_t key_a, std::int64_t key_b, double w) {
    offer(key_a, key_b, w, kNaN, key_b < 0 ? -w : -std::max(0.0, w - unkept_b_));
  }
  void only_b(std::int64_t key_a, std::int64_t key_b, double w) {
    offer(key_a, key_b, kNaN, w, key_a < 0 ? w : std::max(0.0, w - unkept_a_));
  }
  void close(double, double) {}
  std::vector<Moved> take() {
    std::sort_heap(heap_.begin(), heap_.end(), moved_more);
    return std::move(heap_);
  }

 private:
  void offer(std::int64_t key_a, std::int64_t key_b, double before, double after, double change) {
    Moved moved = at_;
    moved.key = key_a;
    moved.key_b = key_b;
    moved.before = before;
    moved.after = after;
    moved.change = change;
    if (heap_.size() == wanted_) {
      if (wanted_ == 0 || !moved_more(moved, heap_.front())) return;
      std::pop_heap(heap_.begin(), heap_.end(), moved_more);
      heap_.back() = moved;
    } else {
      heap_.push_back(moved);
    }
    std::push_heap(heap_.begin(), heap_.end(), moved_more);
  }
  const Comparison& comparison_;
  const std::size_t wanted_;
  Moved at_;
  double unkept_a_ = 0, unkept_b_ = 0;
  std::vector<Moved> heap_;  // the best so far, the least of them in front
};

}  // namespace

std::vector<HeadDifference> diff_heads(const EdgeList& a, const EdgeList& b, Alignment alignment) {
  Comparison comparison(a, b, alignment);
  ByHead by_head(comparison);
  comparison.run(by_head);
  return by_head.take();
}

std::vector<Moved> diff_pairs(const EdgeList& a, const EdgeList& b, Alignment alignment, std::int64_t n) {
  Comparison comparison(a, b, alignment);
  const std::int64_t most = a.edge_count() + b.edge_count();
  ByPair by_pair(comparison, static_cast<std::size_t>(std::clamp<std::int64_t>(n, 0, most)));
  comparison.run(by_pair);
  return by_pair.take();
}

}  // namespace ag
