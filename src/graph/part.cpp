// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "../core/error.hpp"
#include "../core/select.hpp"
#include "choice.hpp"
#include "operations.hpp"
#include "threshold_fact.hpp"

namespace ag {
namespace {

bool contains(std::span<const std::int64_t> wanted, std::int64_t value) {
  return wanted.empty() || std::find(wanted.begin(), wanted.end(), value) != wanted.end();
}

template <class Match>
bool any_slice(const EdgeList& graph, Match&& match) {
  return std::any_of(graph.slices.begin(), graph.slices.end(),
                     [&](const Slice& slice) { return match(slice.info.id); });
}

void require_present(const EdgeList& graph, const Part& part) {
  for (const std::int64_t layer : part.layers) {
    if (!any_slice(graph, [&](const SliceId& id) { return id.layer == layer; }))
      fail(Status::kNotFound, "the graph has no layer {}", layer);
  }
  for (const std::int64_t head : part.heads) {
    if (!any_slice(graph, [&](const SliceId& id) { return id.head == head; }))
      fail(Status::kNotFound, "the graph has no head {}", head);
  }
  for (const auto& [layer, head] : part.layer_heads) {
    if (!any_slice(graph, [l = layer, h = head](const SliceId& id) { return id.layer == l && id.head == h; }))
      fail(Status::kNotFound, "the graph has no layer {} with head {}", layer, head);
  }
}

// What the part leaves out beside light edges, for whoever reads the smaller graph.
std::string part_text(const Part& part) {
  std::vector<std::string> texts;
  if (part.has_query_range()) texts.push_back(fmt::format("queries {}:{}", part.query_begin, part.query_end));
  if (part.has_key_range()) texts.push_back(fmt::format("keys {}:{}", part.key_begin, part.key_end));
  if (part.has_distances()) texts.push_back(fmt::format("distances {} to {}", part.distance_min, part.distance_max));
  if (!part.query_positions.empty()) texts.push_back(fmt::format("{} query positions", part.query_positions.size()));
  if (!part.key_positions.empty()) texts.push_back(fmt::format("{} key positions", part.key_positions.size()));
  return fmt::format("{}", fmt::join(texts, "; "));
}

// The facts that the part makes stricter, so that whoever reads the smaller graph knows how it was made.
Metadata part_metadata(const Metadata& metadata, const Part& part) {
  Metadata out = metadata;
  const std::optional<double> own = threshold_fact(metadata);
  if (part.threshold > own.value_or(0)) out.facts["threshold"] = fmt::format("{}", part.threshold);
  if (part.top_k > 0) {
    std::int64_t before = 0;
    const auto fact = metadata.facts.find("top_k");
    if (fact != metadata.facts.end())
      std::from_chars(fact->second.data(), fact->second.data() + fact->second.size(), before);
    if (before <= 0 || part.top_k < before) out.facts["top_k"] = fmt::format("{}", part.top_k);
  }
  const std::string text = part_text(part);
  if (!text.empty()) {
    std::string& fact = out.facts["part"];
    fact = fact.empty() ? text : fact + "; " + text;
  }
  return out;
}

void push_weight(EdgeList& graph, double weight) {
  if (graph.weight_dtype == DType::kF64) {
    graph.weights_f64.push_back(weight);
  } else {
    graph.weights_f32.push_back(static_cast<float>(weight));
  }
}

}  // namespace

Choice::Choice(const EdgeList& graph, const Part& part)
    : part_(part),
      offset_(graph.metadata.two_sided() ? 0 : query_offset(graph.metadata)),
      cut_(stored_cut(graph.metadata, graph.weight_dtype, part.threshold)),
      key_begin_(part.key_begin),
      key_end_(part.has_key_range() ? part.key_end : std::numeric_limits<std::int64_t>::max()),
      plain_(!part.has_key_range() && !part.has_distances() && part.key_positions.empty()),
      queries_(positions(part.query_positions)),
      keys_(positions(part.key_positions)) {
  require_present(graph, part);
  if (part.has_distances() && graph.metadata.two_sided()) {
    fail(Status::kArgument,
         "queries and keys of this graph are different sequences, between which there is no distance; choose queries "
         "and keys instead");
  }
}

Choice::Positions Choice::positions(const std::vector<std::int64_t>& list) {
  Positions out;
  out.any = !list.empty();
  for (const std::int64_t position : list) {
    const auto at = static_cast<std::size_t>(position);
    if (at >= out.listed.size()) out.listed.resize(at + 1);
    out.listed[at] = true;
  }
  return out;
}

bool Choice::wants_slice(const SliceId& id) const {
  return contains(part_.layers, id.layer) && contains(part_.heads, id.head) &&
         (part_.layer_heads.empty() || std::find(part_.layer_heads.begin(), part_.layer_heads.end(),
                                                 std::pair(id.layer, id.head)) != part_.layer_heads.end());
}

EdgeList part_of(const EdgeList& graph, const Part& part) {
  const Choice choice(graph, part);
  EdgeList out;
  out.weight_dtype = graph.weight_dtype;
  out.metadata = part_metadata(graph.metadata, part);
  out.report = graph.report;
  out.report.kept_mass_sum = 0;
  out.report.rows_with_keys = 0;
  out.report.empty_rows = 0;
  // Room for all: pages that stay empty are never touched, and growing would move what is there.
  out.keys.reserve(graph.keys.size());
  (out.weight_dtype == DType::kF32 ? out.weights_f32.reserve(graph.keys.size())
                                   : out.weights_f64.reserve(graph.keys.size()));

  const Selection selection{.threshold = 0, .top_k = part.top_k};
  std::vector<RowEdge> row_edges;
  for (const Slice& slice : graph.slices) {
    if (!choice.wants_slice(slice.info.id)) continue;
    const std::int64_t first_row = choice.first_row(slice.info), end_row = choice.end_row(slice.info);
    Slice kept = slice;
    kept.info.query_begin += first_row;
    kept.info.query_count = end_row - first_row;
    if (kept.info.query_count != slice.info.query_count) kept.sums = {};
    kept.first_row = static_cast<std::int64_t>(out.rows.size());
    kept.first_offset = static_cast<std::int64_t>(out.offsets.size());
    kept.first_edge = out.edge_count();
    const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
    out.offsets.push_back(0);
    for (std::int64_t r = first_row; r < end_row; ++r) {
      const std::int64_t position = choice.position_of_query(slice.info.query_begin + r);
      row_edges.clear();
      if (choice.wants_query(position)) {
        for (std::int64_t e = slice.first_edge + offsets[r]; e < slice.first_edge + offsets[r + 1]; ++e) {
          const double weight = graph.weight(e);
          const std::int32_t key = graph.keys[static_cast<std::size_t>(e)];
          if (choice.wants_edge(position, key, weight)) row_edges.push_back({weight, key});
        }
      }
      select_row(selection, row_edges);
      double mass = 0;
      for (const RowEdge& edge : row_edges) {
        out.keys.push_back(edge.key);
        push_weight(out, edge.weight);
        mass += edge.weight;
      }
      const auto row = static_cast<std::size_t>(slice.first_row + r);
      const std::int64_t before = offsets[r + 1] - offsets[r];
      const auto after = static_cast<std::int64_t>(row_edges.size());
      // A row that lost nothing keeps its mass as it was computed, before weights were rounded for storage.
      if (after == before && !std::isnan(graph.rows.kept_mass[row])) mass = graph.rows.kept_mass[row];
      RowStats stats = graph.rows.view()[slice.first_row + r];
      stats.kept_mass = mass;
      out.rows.push_back(stats);
      if (has_keys(graph.rows.maximum[row], graph.rows.max_key[row], before)) {
        out.report.rows_with_keys += 1;
        out.report.kept_mass_sum += mass;
      } else {
        out.report.empty_rows += 1;
      }
      out.offsets.push_back(out.edge_count() - kept.first_edge);
    }
    kept.edge_count = out.offsets.back();
    out.slices.push_back(std::move(kept));
  }
  return out;
}

}  // namespace ag
