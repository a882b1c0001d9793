// SPDX-License-Identifier: Apache-2.0
// Questions about a result, and smaller results out of larger ones.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "../graph/bins.hpp"
#include "c_views.hpp"
#include "caller_struct.hpp"
#include "guard.hpp"
#include "result.hpp"

namespace {

constexpr auto kBinsStarts = ATTNGRAPH_FIELD_STARTS(
    attngraph_bins, value, offsetof(attngraph_bins, rows), offsetof(attngraph_bins, columns),
    offsetof(attngraph_bins, query_begin), offsetof(attngraph_bins, query_end), offsetof(attngraph_bins, key_begin),
    offsetof(attngraph_bins, key_end), offsetof(attngraph_bins, value));

using ag::Status;
using ag::api::guarded;
using ag::api::required;

std::vector<std::int64_t> labels(const std::int64_t* values, std::int64_t count, const char* what) {
  if (count < 0) ag::fail(Status::kArgument, "{} is {}; it is at least 0, where 0 means all", what, count);
  if (count == 0) return {};
  required(values, what);
  return {values, values + count};
}

}  // namespace

attngraph_status attngraph_result_top(const attngraph_result* result, int64_t n, attngraph_edge* edges,
                                      int64_t* count) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    if (n < 0) ag::fail(Status::kArgument, "n is {}; it is at least 0", n);
    if (n > 0) required(edges, "edges");
    required(count, "count");
    const std::vector<ag::Edge> heaviest = ag::top(graph, n);
    std::transform(heaviest.begin(), heaviest.end(), edges, ag::api::edge_struct);
    *count = static_cast<int64_t>(heaviest.size());
  });
}

attngraph_status attngraph_result_sweep(const attngraph_result* result, const double* thresholds, int64_t count,
                                        attngraph_sweep_row* rows) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    const std::span<const double> wanted = ag::api::checked_thresholds(thresholds, count);
    if (count > 0) required(rows, "rows");
    const std::vector<ag::SweepRow> swept = ag::sweep(graph, wanted);
    std::transform(swept.begin(), swept.end(), rows, ag::api::sweep_struct);
  });
}

attngraph_status attngraph_result_summary(const attngraph_result* result, int64_t slice, attngraph_summary* summary) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    const auto count = static_cast<std::int64_t>(graph.slices.size());
    if (slice < -1 || slice >= count)
      ag::fail(Status::kNotFound, "there is no slice {}; the result has {}, and -1 means all of them", slice, count);
    std::optional<std::size_t> one;
    if (slice >= 0) one = static_cast<std::size_t>(slice);
    const ag::Summary s = ag::summarise(graph, one);
    attngraph_summary out{};
    out.rows = s.rows;
    out.edges = s.edges;
    out.empty_rows = s.empty_rows;
    out.rows_without_edges = s.rows_without_edges;
    out.max_row_edges = s.max_row_edges;
    out.mean_row_edges = s.mean_row_edges;
    out.kept_mass_mean = s.kept_mass_mean;
    out.kept_mass_min = s.kept_mass_min;
    out.weight_min = s.weight_min;
    out.weight_max = s.weight_max;
    out.entropy_mean = s.entropy_mean;
    out.mean_distance = s.mean_distance;
    out.self_share = s.self_share;
    out.previous_share = s.previous_share;
    out.first_share = s.first_share;
    required(summary, "summary") = out;
  });
}

attngraph_status attngraph_result_bins(const attngraph_result* result, int64_t slice, const attngraph_bins* bins,
                                       double* cells) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    const auto count = static_cast<std::int64_t>(graph.slices.size());
    if (slice < 0 || slice >= count)
      ag::fail(Status::kNotFound, "there is no slice {}; the result has {}", slice, count);
    const auto b = ag::api::read_struct<attngraph_bins>(&required(bins, "bins"), ATTNGRAPH_BINS_INIT, "bins",
                                                        "ATTNGRAPH_BINS_INIT", kBinsStarts);
    if (b.value < ATTNGRAPH_BIN_MAX || b.value > ATTNGRAPH_BIN_SUM)
      ag::fail(Status::kArgument, "bins.value is {}; it is {} (max), {} (mean) or {} (sum)", b.value,
               static_cast<int>(ATTNGRAPH_BIN_MAX), static_cast<int>(ATTNGRAPH_BIN_MEAN),
               static_cast<int>(ATTNGRAPH_BIN_SUM));
    const ag::Slice& asked = graph.slices[static_cast<std::size_t>(slice)];
    const ag::Bins how = ag::checked_bins(asked, {b.query_begin, b.query_end, b.key_begin, b.key_end, b.rows, b.columns,
                                                  static_cast<ag::BinValue>(b.value)});
    ag::bin_edges(graph, asked, how, {&required(cells, "cells"), static_cast<std::size_t>(b.rows * b.columns)});
  });
}

attngraph_status attngraph_result_diff(const attngraph_result* a, const attngraph_result* b, double band,
                                       attngraph_difference* difference) {
  return guarded([&] {
    required(difference, "difference");
    if (!std::isfinite(band) || band < 0)
      ag::fail(Status::kArgument, "band is {}; it is a finite number, at least 0", band);
    const ag::Difference d = ag::diff(required(a, "a").graph, required(b, "b").graph, band);
    attngraph_difference out{};
    out.edges_a = d.edges_a;
    out.edges_b = d.edges_b;
    out.only_a = d.only_a;
    out.only_b = d.only_b;
    out.inside_band = d.inside_band;
    out.common = d.common;
    out.max_weight_difference = d.max_weight_difference;
    out.slices_only_a = d.slices_only_a;
    out.slices_only_b = d.slices_only_b;
    if (d.first) out.first = ag::api::edge_struct(*d.first);
    out.first_in_a = d.first_in_a ? 1 : 0;
    *difference = out;
  });
}

namespace {

constexpr auto kPartStarts = ATTNGRAPH_FIELD_STARTS(
    attngraph_part, key_position_count, offsetof(attngraph_part, threshold), offsetof(attngraph_part, top_k),
    offsetof(attngraph_part, layers), offsetof(attngraph_part, layer_count), offsetof(attngraph_part, heads),
    offsetof(attngraph_part, head_count), offsetof(attngraph_part, layer_heads),
    offsetof(attngraph_part, layer_head_count), offsetof(attngraph_part, query_begin),
    offsetof(attngraph_part, query_end), offsetof(attngraph_part, key_begin), offsetof(attngraph_part, key_end),
    offsetof(attngraph_part, distance_min), offsetof(attngraph_part, distance_max),
    offsetof(attngraph_part, query_positions), offsetof(attngraph_part, query_position_count),
    offsetof(attngraph_part, key_positions), offsetof(attngraph_part, key_position_count));

void check_range(std::int64_t begin, std::int64_t end, const char* what) {
  if (begin < 0 || end < begin)
    ag::fail(Status::kArgument, "the {} range is {} to {}; it begins at 0 or later and does not fall", what, begin,
             end);
}

std::vector<std::int64_t> positions(const std::int64_t* values, std::int64_t count, const char* what) {
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  std::vector<std::int64_t> list = labels(values, count, what);
  for (const std::int64_t position : list) {
    if (position < 0 || position > kLimit)
      ag::fail(Status::kArgument, "{} holds {}; a position is 0 to 2^31 - 1", what, position);
  }
  return list;
}

ag::Part part_argument(const attngraph_part* part) {
  const attngraph_part p =
      ag::api::read_struct<attngraph_part>(part, ATTNGRAPH_PART_INIT, "part", "ATTNGRAPH_PART_INIT", kPartStarts);
  if (!std::isfinite(p.threshold) || p.threshold < 0)
    ag::fail(Status::kArgument, "threshold is {}; it is a finite number, at least 0", p.threshold);
  if (p.top_k < 0) ag::fail(Status::kArgument, "top_k is {}; it is at least 1, or 0 for all", p.top_k);
  check_range(p.query_begin, p.query_end, "query");
  check_range(p.key_begin, p.key_end, "key");
  if (p.distance_min > p.distance_max)
    ag::fail(Status::kArgument, "distance_min is {} and distance_max {}; no distance is between", p.distance_min,
             p.distance_max);
  ag::Part wanted;
  wanted.threshold = p.threshold;
  wanted.top_k = p.top_k;
  wanted.layers = labels(p.layers, p.layer_count, "layers");
  wanted.heads = labels(p.heads, p.head_count, "heads");
  if (p.layer_head_count > 0) required(p.layer_heads, "layer_heads");
  for (std::int64_t n = 0; n < p.layer_head_count; ++n)
    wanted.layer_heads.emplace_back(p.layer_heads[2 * n], p.layer_heads[2 * n + 1]);
  wanted.query_begin = p.query_begin;
  wanted.query_end = p.query_end;
  wanted.key_begin = p.key_begin;
  wanted.key_end = p.key_end;
  wanted.distance_min = p.distance_min;
  wanted.distance_max = p.distance_max;
  wanted.query_positions = positions(p.query_positions, p.query_position_count, "query_positions");
  wanted.key_positions = positions(p.key_positions, p.key_position_count, "key_positions");
  return wanted;
}

}  // namespace

attngraph_status attngraph_result_part(const attngraph_result* result, const attngraph_part* part,
                                       attngraph_result** out) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    required(out, "out");
    auto smaller = std::make_unique<attngraph_result>();
    smaller->graph = ag::part_of(graph, part_argument(part));
    *out = smaller.release();
  });
}

attngraph_status attngraph_result_top_of(const attngraph_result* result, const attngraph_part* part, int64_t n,
                                         attngraph_edge* edges, int64_t* count) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    if (n < 0) ag::fail(Status::kArgument, "n is {}; it is at least 0", n);
    if (n > 0) required(edges, "edges");
    required(count, "count");
    const std::vector<ag::Edge> heaviest = ag::top_of(graph, part_argument(part), n);
    std::transform(heaviest.begin(), heaviest.end(), edges, ag::api::edge_struct);
    *count = static_cast<int64_t>(heaviest.size());
  });
}
