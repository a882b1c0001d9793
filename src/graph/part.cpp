// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "../core/error.hpp"
#include "../core/select.hpp"
#include "operations.hpp"
#include "threshold_fact.hpp"

namespace ag {
namespace {

bool contains(std::span<const std::int64_t> wanted, std::int64_t value) {
  return wanted.empty() || std::find(wanted.begin(), wanted.end(), value) != wanted.end();
}

void require_present(const EdgeList& graph, std::span<const std::int64_t> wanted, std::int64_t SliceId::*label,
                     const char* what) {
  for (const std::int64_t value : wanted) {
    const auto has = [&](const Slice& slice) { return slice.info.id.*label == value; };
    if (std::none_of(graph.slices.begin(), graph.slices.end(), has))
      fail(Status::kNotFound, "the graph has no {} {}", what, value);
  }
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

EdgeList part_of(const EdgeList& graph, const Part& part) {
  require_present(graph, part.layers, &SliceId::layer, "layer");
  require_present(graph, part.heads, &SliceId::head, "head");

  EdgeList out;
  out.weight_dtype = graph.weight_dtype;
  out.metadata = part_metadata(graph.metadata, part);
  out.report = graph.report;
  out.report.kept_mass_sum = 0;
  out.report.rows_with_keys = 0;
  out.report.empty_rows = 0;

  const double cut = stored_cut(graph.metadata, graph.weight_dtype, part.threshold);
  const Selection selection{.threshold = 0, .top_k = part.top_k};
  std::vector<RowEdge> row_edges;
  for (const Slice& slice : graph.slices) {
    if (!contains(part.layers, slice.info.id.layer) || !contains(part.heads, slice.info.id.head)) continue;
    Slice kept = slice;
    kept.first_row = static_cast<std::int64_t>(out.rows.size());
    kept.first_offset = static_cast<std::int64_t>(out.offsets.size());
    kept.first_edge = out.edge_count();
    const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
    out.offsets.push_back(0);
    for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
      row_edges.clear();
      for (std::int64_t e = slice.first_edge + offsets[r]; e < slice.first_edge + offsets[r + 1]; ++e) {
        const double weight = graph.weight(e);
        if (weight >= cut) row_edges.push_back({weight, graph.keys[static_cast<std::size_t>(e)]});
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
      out.rows.push_back(
          {graph.rows.logsumexp[row], graph.rows.maximum[row], mass, graph.rows.entropy[row], graph.rows.max_key[row]});
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
