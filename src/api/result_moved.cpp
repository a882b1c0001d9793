// SPDX-License-Identifier: Apache-2.0
// Two results side by side, and spans in place of tokens.
#include "../graph/moved.hpp"

#include <algorithm>
#include <memory>

#include "../graph/group.hpp"
#include "caller_struct.hpp"
#include "guard.hpp"
#include "result.hpp"

namespace {

constexpr auto kGroupStarts = ATTNGRAPH_FIELD_STARTS(attngraph_group, label_lengths, offsetof(attngraph_group, begins),
                                                     offsetof(attngraph_group, ends), offsetof(attngraph_group, count),
                                                     offsetof(attngraph_group, rest), offsetof(attngraph_group, labels),
                                                     offsetof(attngraph_group, label_lengths));

using ag::Status;
using ag::api::guarded;
using ag::api::required;

ag::Alignment alignment_argument(const std::int64_t* alignment, std::int64_t count) {
  if (count < 0) ag::fail(Status::kArgument, "alignment_count is {}; it is at least 0", count);
  if (alignment == nullptr) return {};
  return {alignment, static_cast<std::size_t>(count)};
}

attngraph_head_difference head_difference_struct(const ag::HeadDifference& d) {
  attngraph_head_difference out{};
  out.batch = d.id.batch;
  out.layer = d.id.layer;
  out.head = d.id.head;
  out.queries = d.queries;
  out.edges_a = d.edges_a;
  out.edges_b = d.edges_b;
  out.common = d.common;
  out.kept_a = d.kept_a;
  out.kept_b = d.kept_b;
  out.variation_min = d.variation_min;
  out.variation_max = d.variation_max;
  out.divergence_min = d.divergence_min;
  out.divergence_max = d.divergence_max;
  return out;
}

attngraph_moved moved_struct(const ag::Moved& m) {
  return {m.id.batch, m.id.layer, m.id.head, m.query, m.key, m.query_b, m.key_b, m.before, m.after, m.change};
}

}  // namespace

attngraph_status attngraph_result_group(const attngraph_result* result, const attngraph_group* group,
                                        attngraph_result** out) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    required(out, "out");
    const attngraph_group g = ag::api::read_struct<attngraph_group>(group, ATTNGRAPH_GROUP_INIT, "group",
                                                                    "ATTNGRAPH_GROUP_INIT", kGroupStarts);
    if (g.count < 0) ag::fail(Status::kArgument, "the count of spans is {}; it is at least 0", g.count);
    if (g.rest < ATTNGRAPH_REST_ERROR || g.rest > ATTNGRAPH_REST_OWN)
      ag::fail(Status::kArgument, "rest is {}; it is 0 (error), 1 (drop) or 2 (own)", g.rest);
    ag::Spans spans;
    spans.rest = static_cast<ag::Spans::Rest>(g.rest);
    if (g.count > 0) {
      spans.begins.assign(&required(g.begins, "begins"), g.begins + g.count);
      spans.ends.assign(&required(g.ends, "ends"), g.ends + g.count);
    }
    for (std::int64_t n = 0; g.labels != nullptr && n < g.count; ++n) {
      if (g.labels[n] == nullptr) ag::fail(Status::kArgument, "labels[{}] is NULL; an empty label is \"\"", n);
      spans.labels.push_back(g.label_lengths != nullptr ? std::string(g.labels[n], g.label_lengths[n])
                                                        : std::string(g.labels[n]));
    }
    auto grouped = std::make_unique<attngraph_result>();
    grouped->graph = ag::group(graph, spans);
    *out = grouped.release();
  });
}

attngraph_status attngraph_result_diff_heads(const attngraph_result* a, const attngraph_result* b,
                                             const int64_t* alignment, int64_t alignment_count,
                                             attngraph_head_difference* rows, int64_t* count) {
  return guarded([&] {
    required(count, "count");
    const std::vector<ag::HeadDifference> table =
        ag::diff_heads(required(a, "a").graph, required(b, "b").graph, alignment_argument(alignment, alignment_count));
    if (!table.empty()) required(rows, "rows");
    std::transform(table.begin(), table.end(), rows, head_difference_struct);
    *count = static_cast<int64_t>(table.size());
  });
}

attngraph_status attngraph_result_diff_pairs(const attngraph_result* a, const attngraph_result* b,
                                             const int64_t* alignment, int64_t alignment_count, int64_t n,
                                             attngraph_moved* rows, int64_t* count) {
  return guarded([&] {
    if (n < 0) ag::fail(Status::kArgument, "n is {}; it is at least 0", n);
    if (n > 0) required(rows, "rows");
    required(count, "count");
    const std::vector<ag::Moved> table = ag::diff_pairs(required(a, "a").graph, required(b, "b").graph,
                                                        alignment_argument(alignment, alignment_count), n);
    std::transform(table.begin(), table.end(), rows, moved_struct);
    *count = static_cast<int64_t>(table.size());
  });
}

attngraph_status attngraph_results_align(const attngraph_result* a, const attngraph_result* b, int64_t* positions) {
  return guarded([&] {
    const std::vector<std::string>& tokens_a = required(a, "a").graph.metadata.tokens.common();
    const std::vector<std::string>& tokens_b = required(b, "b").graph.metadata.tokens.common();
    if (tokens_a.empty() || tokens_b.empty())
      ag::fail(Status::kArgument, "{} graph has no tokens to align by", tokens_a.empty() ? "the first" : "the second");
    const std::vector<std::int64_t> found = ag::align(tokens_a, tokens_b);
    std::copy(found.begin(), found.end(), &required(positions, "positions"));
  });
}
