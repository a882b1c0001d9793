// SPDX-License-Identifier: Apache-2.0
#include "join.hpp"

#include <algorithm>
#include <limits>
#include <map>

#include "../core/error.hpp"

namespace ag {
namespace {

// A slice of one of the graphs, with its place in the whole.
struct Piece {
  const JoinPart* part = nullptr;
  const Slice* slice = nullptr;
  std::int64_t begin() const { return part->query_begin + slice->info.query_begin; }
  std::int64_t end() const { return begin() + slice->info.query_count; }
  std::int64_t key_end() const { return part->key_begin + slice->info.key_count; }
};

void require_adjacent(const SliceId& id, const std::vector<Piece>& pieces) {
  std::int64_t end = pieces.front().begin();
  for (const Piece& piece : pieces) {
    if (piece.begin() != end) {
      fail(Status::kShape, "(batch, layer, head) = ({}, {}, {}): query ranges {} at query {}", id.batch, id.layer,
           id.head, piece.begin() < end ? "overlap" : "leave a gap", std::min(piece.begin(), end));
    }
    end = piece.end();
  }
}

template <class Field>
bool all_have(const std::vector<Piece>& pieces, Field field) {
  return std::all_of(pieces.begin(), pieces.end(),
                     [&](const Piece& p) { return p.slice->info.query_count == 0 || !(p.slice->sums.*field).empty(); });
}

void add(std::vector<double>& to, const std::vector<double>& values, std::int64_t first) {
  to.resize(std::max(to.size(), static_cast<std::size_t>(first) + values.size()));
  for (std::size_t n = 0; n < values.size(); ++n) to[static_cast<std::size_t>(first) + n] += values[n];
}

// Distances are differences of positions: they mean the same in every part.
void add_distances(SliceSums& to, const std::vector<Piece>& pieces) {
  to.distance_begin = std::numeric_limits<std::int64_t>::max();
  for (const Piece& p : pieces) {
    if (!p.slice->sums.distances.empty()) to.distance_begin = std::min(to.distance_begin, p.slice->sums.distance_begin);
  }
  for (const Piece& p : pieces) {
    if (p.slice->sums.distances.empty()) continue;
    add(to.distances, p.slice->sums.distances, p.slice->sums.distance_begin - to.distance_begin);
  }
  if (to.distances.empty()) to.distance_begin = 0;
}

SliceSums sums_of(const std::vector<Piece>& pieces, std::int64_t keys) {
  SliceSums sums;
  if (all_have(pieces, &SliceSums::received)) {
    for (const Piece& p : pieces) add(sums.received, p.slice->sums.received, p.part->key_begin);
    if (!sums.received.empty()) sums.received.resize(static_cast<std::size_t>(keys));
  }
  if (all_have(pieces, &SliceSums::distances)) add_distances(sums, pieces);
  if (all_have(pieces, &SliceSums::tokens)) {
    for (const Piece& p : pieces) add(sums.tokens, p.slice->sums.tokens, 0);
  }
  return sums;
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from, std::int64_t first, std::int64_t count) {
  to.insert(to.end(), from.begin() + first, from.begin() + first + count);
}

void append_edges(EdgeList& out, const EdgeList& graph, const Piece& piece) {
  const Slice& slice = *piece.slice;
  const auto shift = static_cast<std::int32_t>(piece.part->key_begin);
  const std::int32_t* keys = graph.keys.data() + slice.first_edge;
  for (std::int64_t e = 0; e < slice.edge_count; ++e) out.keys.push_back(keys[e] + shift);
  if (out.weight_dtype == DType::kF32) {
    append(out.weights_f32, graph.weights_f32, slice.first_edge, slice.edge_count);
  } else if (graph.weight_dtype == DType::kF64) {
    append(out.weights_f64, graph.weights_f64, slice.first_edge, slice.edge_count);
  } else {
    for (std::int64_t e = 0; e < slice.edge_count; ++e) out.weights_f64.push_back(graph.weight(slice.first_edge + e));
  }
}

void append_rows(EdgeList& out, const EdgeList& graph, const Piece& piece, std::int64_t first_edge) {
  const Slice& slice = *piece.slice;
  const std::int64_t base = out.edge_count() - slice.edge_count - first_edge;
  const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) out.offsets.push_back(base + offsets[r + 1]);
  for (const auto column : {&RowColumns::logsumexp, &RowColumns::maximum, &RowColumns::kept_mass, &RowColumns::entropy})
    append(out.rows.*column, graph.rows.*column, slice.first_row, slice.info.query_count);
  const auto shift = static_cast<std::int32_t>(piece.part->key_begin);
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    const std::int32_t key = graph.rows.max_key[static_cast<std::size_t>(slice.first_row + r)];
    out.rows.max_key.push_back(key < 0 ? key : key + shift);
  }
}

void append_slice(EdgeList& out, const SliceId& id, const std::vector<Piece>& pieces) {
  require_adjacent(id, pieces);
  Slice whole;
  whole.info = {id, pieces.front().begin(), pieces.back().end() - pieces.front().begin(), 0};
  for (const Piece& piece : pieces) whole.info.key_count = std::max(whole.info.key_count, piece.key_end());
  if (whole.info.key_count > std::numeric_limits<std::int32_t>::max())
    fail(Status::kShape, "the joined slice has {} keys; the limit is 2^31 - 1", whole.info.key_count);
  whole.first_row = static_cast<std::int64_t>(out.rows.size());
  whole.first_offset = static_cast<std::int64_t>(out.offsets.size());
  whole.first_edge = out.edge_count();
  whole.sums = sums_of(pieces, whole.info.key_count);
  out.offsets.push_back(0);
  for (const Piece& piece : pieces) {
    append_edges(out, *piece.part->graph, piece);
    append_rows(out, *piece.part->graph, piece, whole.first_edge);
  }
  whole.edge_count = out.edge_count() - whole.first_edge;
  out.slices.push_back(std::move(whole));
}

}  // namespace

EdgeList join(std::span<const JoinPart> parts) {
  EdgeList out;
  std::map<SliceId, std::vector<Piece>> slices;
  std::size_t edges = 0, rows = 0;
  for (const JoinPart& part : parts) {
    const EdgeList& graph = *part.graph;
    edges += graph.keys.size();
    rows += graph.rows.size();
    if (graph.weight_dtype == DType::kF64) out.weight_dtype = DType::kF64;
    if (!graph.metadata.tokens.empty()) out.metadata.tokens = graph.metadata.tokens;
    if (!graph.metadata.query_tokens.empty()) out.metadata.query_tokens = graph.metadata.query_tokens;
    out.report.add(graph.report);
    for (const Slice& slice : graph.slices) slices[slice.info.id].push_back({&part, &slice});
  }
  if (!parts.empty()) out.metadata.facts = parts.front().graph->metadata.facts;
  out.keys.reserve(edges);
  (out.weight_dtype == DType::kF32 ? out.weights_f32.reserve(edges) : out.weights_f64.reserve(edges));
  out.offsets.reserve(rows + slices.size());
  for (auto& [id, pieces] : slices) {
    std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
      return a.begin() != b.begin() ? a.begin() < b.begin() : a.slice->info.query_count < b.slice->info.query_count;
    });
    append_slice(out, id, pieces);
  }
  return out;
}

}  // namespace ag
