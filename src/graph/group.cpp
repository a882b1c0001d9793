// SPDX-License-Identifier: Apache-2.0
#include "group.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../core/error.hpp"
#include "../core/numbers.hpp"
#include "operations.hpp"

namespace ag {
namespace {

constexpr std::int32_t kNoGroup = -1;

// Positions at which a query or a key stands. A file may claim any query: those that no memory holds are refused.
std::int64_t position_count(const EdgeList& graph) {
  const std::int64_t offset = query_offset(graph.metadata);
  std::int64_t count = 0, limit = static_cast<std::int64_t>(graph.rows.size());
  for (const Slice& slice : graph.slices) {
    const SliceInfo& info = slice.info;
    count = std::max({count, info.key_count, position_of(info.query_begin + info.query_count, offset)});
    limit = std::max(limit, static_cast<std::int64_t>(graph.rows.size()) + info.key_count);
  }
  if (count > limit || count > std::numeric_limits<std::int32_t>::max())
    fail(Status::kLimit, "queries stand up to position {}, far beyond the keys; such a graph cannot be grouped", count);
  return count;
}

class Grouping {
 public:
  Grouping(const EdgeList& graph, const Spans& spans)
      : graph_(graph), offset_(query_offset(graph.metadata)), group_of_(idx(position_count(graph)), kNoGroup) {
    if (graph.metadata.two_sided())
      fail(Status::kArgument,
           "queries and keys of this graph are different sequences, and spans are of one; such a graph cannot be "
           "grouped");
    const auto count = static_cast<std::int64_t>(group_of_.size());
    std::int64_t next = 0;
    for (std::size_t n = 0; n < spans.begins.size(); ++n) {
      const std::int64_t begin = spans.begins[n], end = spans.ends[n];
      if (begin >= end) fail(Status::kArgument, "span {} is [{}, {}), which holds no position", n, begin, end);
      if (begin < next)
        fail(Status::kArgument, "span {} is [{}, {}), which overlaps the one before it or comes too late; spans ascend",
             n, begin, end);
      if (end > count)
        fail(Status::kArgument, "span {} is [{}, {}), but the graph has {} positions", n, begin, end, count);
      leave_out(next, begin, spans.rest);
      add(begin, end, spans.labels.empty() ? label_of(begin, end) : spans.labels[n]);
      next = end;
    }
    leave_out(next, count, spans.rest);
  }

  EdgeList run() {
    out_.weight_dtype = DType::kF64;
    out_.metadata.facts = graph_.metadata.facts;
    for (const char* const gone : {"threshold", "top_k", "mass", "budget", "head_budget"})
      out_.metadata.facts.erase(gone);
    out_.metadata.facts["weights"] = "sums over keys, means over queries of spans";
    out_.metadata.facts["query_offset"] = "0";  // spans are the positions now
    if (has_labels_) out_.metadata.tokens = Labels(labels_);
    out_.report = graph_.report;
    out_.report.kept_mass_sum = 0;
    out_.report.rows_with_keys = out_.report.empty_rows = 0;
    out_.keys.reserve(graph_.keys.size());
    out_.weights_f64.reserve(graph_.keys.size());
    sums_.assign(idx(groups_), 0.0);
    is_touched_.assign(idx(groups_), false);
    for (const Slice& slice : graph_.slices) group_slice(slice);
    return std::move(out_);
  }

 private:
  void leave_out(std::int64_t begin, std::int64_t end, Spans::Rest rest) {
    if (begin < end && rest == Spans::Rest::kError) {
      fail(Status::kArgument,
           "position {} is in no span; add one, or say that such positions are dropped or stand for themselves", begin);
    }
    if (rest != Spans::Rest::kOwn) return;
    for (std::int64_t p = begin; p < end; ++p) add(p, p + 1, label_of(p, p + 1));
  }

  void add(std::int64_t begin, std::int64_t end, std::string label) {
    std::fill(group_of_.begin() + begin, group_of_.begin() + end, static_cast<std::int32_t>(groups_++));
    has_labels_ = has_labels_ || !label.empty();
    labels_.push_back(std::move(label));
  }

  std::string label_of(std::int64_t begin, std::int64_t end) const {
    std::string label;
    const std::vector<std::string>& tokens = graph_.metadata.tokens.common();
    for (std::int64_t p = begin; p < std::min(end, static_cast<std::int64_t>(tokens.size())); ++p)
      label += tokens[idx(p)];
    return label;
  }

  std::int32_t group_at(std::int64_t position) const {
    return position >= 0 && position < static_cast<std::int64_t>(group_of_.size()) ? group_of_[idx(position)]
                                                                                   : kNoGroup;
  }

  void group_slice(const Slice& slice) {
    Slice made;
    made.info = {slice.info.id, 0, 0, groups_};
    made.first_row = static_cast<std::int64_t>(out_.rows.size());
    made.first_offset = static_cast<std::int64_t>(out_.offsets.size());
    made.first_edge = out_.edge_count();
    out_.offsets.push_back(0);
    std::int32_t open = kNoGroup;
    const std::int64_t* offsets = graph_.offsets.data() + slice.first_offset;
    for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
      const std::int32_t group = group_at(position_of(slice.info.query_begin + r, offset_));
      if (group == kNoGroup) continue;
      if (group != open) {
        if (open == kNoGroup)
          made.info.query_begin = group;
        else
          close(made);
        open = group;
      }
      add_row(slice, r, slice.first_edge + offsets[r], slice.first_edge + offsets[r + 1]);
    }
    if (open != kNoGroup) close(made);
    made.edge_count = out_.edge_count() - made.first_edge;
    out_.slices.push_back(std::move(made));
  }

  void add_row(const Slice& slice, std::int64_t r, std::int64_t begin, std::int64_t end) {
    const auto row = static_cast<std::size_t>(slice.first_row + r);
    if (!has_keys(graph_.rows.maximum[row], graph_.rows.max_key[row], end - begin)) return;
    queries_ += 1;
    double all = 0, dropped = 0;
    for (std::int64_t e = begin; e < end; ++e) {
      const double weight = graph_.weight(e);
      const std::int32_t group = group_at(graph_.keys[idx(e)]);
      all += weight;
      if (group == kNoGroup) {
        dropped += weight;
        continue;
      }
      if (!is_touched_[idx(group)]) {
        is_touched_[idx(group)] = true;
        touched_.push_back(group);
      }
      sums_[idx(group)] += weight;
    }
    kept_ += (std::isnan(graph_.rows.kept_mass[row]) ? all : graph_.rows.kept_mass[row]) - dropped;
  }

  // The row of the span whose queries are all in.
  void close(Slice& made) {
    std::sort(touched_.begin(), touched_.end());
    RowStats stats;
    double heaviest = 0;
    const auto queries = static_cast<double>(queries_);
    for (const std::int32_t group : touched_) {
      const double weight = sums_[idx(group)] / queries;
      out_.keys.push_back(group);
      out_.weights_f64.push_back(weight);
      if (stats.max_key < 0 || weight > heaviest) {
        heaviest = weight;
        stats.max_key = group;
      }
      sums_[idx(group)] = 0;
      is_touched_[idx(group)] = false;
    }
    if (queries_ > 0) {
      stats.logsumexp = stats.maximum = kNaN;
      stats.kept_mass = kept_ / queries;
      out_.report.rows_with_keys += 1;
      out_.report.kept_mass_sum += stats.kept_mass;
    } else {
      out_.report.empty_rows += 1;
    }
    out_.rows.push_back(stats);
    out_.offsets.push_back(out_.edge_count() - made.first_edge);
    made.info.query_count += 1;
    touched_.clear();
    queries_ = 0;
    kept_ = 0;
  }

  const EdgeList& graph_;
  const std::int64_t offset_;
  std::vector<std::int32_t> group_of_;  // by position
  std::int64_t groups_ = 0;
  std::vector<std::string> labels_;
  bool has_labels_ = false;
  EdgeList out_;
  // Of the span at hand: weight by key span, the key spans that have any, its queries and what they kept.
  std::vector<double> sums_;
  std::vector<bool> is_touched_;
  std::vector<std::int32_t> touched_;
  std::int64_t queries_ = 0;
  double kept_ = 0;
};

}  // namespace

EdgeList group(const EdgeList& graph, const Spans& spans) { return Grouping(graph, spans).run(); }

}  // namespace ag
