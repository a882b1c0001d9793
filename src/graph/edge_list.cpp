// SPDX-License-Identifier: Apache-2.0
#include "edge_list.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "../core/huge_pages.hpp"

namespace ag {
namespace {

// Room for `more` at the end. A large array is moved in pieces, with a look at the caller's wishes in between: half a
// gigabyte takes a third of a second.
template <class T>
void make_room(std::vector<T>& array, std::int64_t more, const std::function<void()>& poll) {
  constexpr std::ptrdiff_t kPiece = std::ptrdiff_t{1} << 21;
  constexpr std::size_t kLarge = std::size_t{4} << 20;  // bytes; most of them are whole pages of 2 MiB
  const std::size_t wanted = array.size() + static_cast<std::size_t>(more);
  if (wanted <= array.capacity()) return;
  std::vector<T> larger;
  larger.reserve(std::max(wanted, 2 * array.capacity()));
  if (larger.capacity() * sizeof(T) >= kLarge) prefer_huge_pages(larger.data(), larger.capacity() * sizeof(T));
  for (auto from = array.begin(); from != array.end();) {
    const auto to = from + std::min(kPiece, array.end() - from);
    larger.insert(larger.end(), from, to);
    from = to;
    if (poll) poll();
  }
  array = std::move(larger);
}

}  // namespace

bool Metadata::two_sided() const {
  const auto fact = facts.find("attention");
  return !query_tokens.empty() || (fact != facts.end() && fact->second == "cross");
}

const std::string* key_word(const Metadata& metadata, std::int64_t batch, std::int64_t key) {
  return metadata.tokens.word(batch, key);
}

const std::string* query_word(const Metadata& metadata, std::int64_t batch, std::int64_t query) {
  if (!metadata.query_tokens.empty()) return metadata.query_tokens.word(batch, query);
  return metadata.two_sided() ? nullptr : metadata.tokens.word(batch, position_of(query, query_offset(metadata)));
}

std::int64_t query_offset(const Metadata& metadata) {
  constexpr std::int64_t kFarthest = std::int64_t{1} << 60;
  const auto fact = metadata.facts.find("query_offset");
  if (fact == metadata.facts.end()) return 0;
  const std::string& text = fact->second;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && end == text.data() + text.size();
  return whole && value >= -kFarthest && value <= kFarthest ? value : 0;
}

void CollectSink::expect(std::int64_t slices, std::int64_t rows_of_a_slice) {
  // Less than a gigabyte. Views can claim any number of slices and rows, and such as these may never come.
  constexpr std::int64_t kMostRows = std::int64_t{1} << 24;
  if (slices <= 0 || rows_of_a_slice >= kMostRows / slices) return;
  const std::int64_t count = slices * rows_of_a_slice;
  make_room(graph_.offsets, count + slices, poll_);
  RowColumns& rows = graph_.rows;
  for (auto* const column : {&rows.logsumexp, &rows.maximum, &rows.kept_mass, &rows.entropy})
    make_room(*column, count, poll_);
  make_room(rows.max_key, count, poll_);
}

void CollectSink::begin_slice(const SliceInfo& info, DType weight_dtype) {
  if (weight_dtype == DType::kF64 && graph_.weight_dtype != DType::kF64) {
    graph_.weights_f64.assign(graph_.weights_f32.begin(), graph_.weights_f32.end());
    graph_.weights_f32 = {};
    graph_.weight_dtype = DType::kF64;
  }
  Slice slice;
  slice.info = info;
  slice.first_row = static_cast<std::int64_t>(graph_.rows.size());
  slice.first_offset = static_cast<std::int64_t>(graph_.offsets.size());
  slice.first_edge = graph_.edge_count();
  graph_.slices.push_back(std::move(slice));
  graph_.offsets.push_back(0);
}

void CollectSink::rows(const RowBlock& block) {
  const std::int64_t base = graph_.offsets.back();
  graph_.offsets.insert(graph_.offsets.end(), block.offsets + 1, block.offsets + block.row_count + 1);
  std::for_each(graph_.offsets.end() - block.row_count, graph_.offsets.end(),
                [base](std::int64_t& offset) { offset += base; });
  graph_.rows.append(block.stats, block.row_count);
  const std::int64_t count = block.edge_count();
  make_room(graph_.keys, count, poll_);
  graph_.keys.insert(graph_.keys.end(), block.keys, block.keys + count);
  if (graph_.weight_dtype == DType::kF32) {
    const auto* weights = static_cast<const float*>(block.weights);
    make_room(graph_.weights_f32, count, poll_);
    graph_.weights_f32.insert(graph_.weights_f32.end(), weights, weights + count);
  } else {
    make_room(graph_.weights_f64, count, poll_);
    for (std::int64_t e = 0; e < count; ++e) graph_.weights_f64.push_back(block.weight(e));
  }
}

void CollectSink::end_slice(const SliceSums& sums) {
  Slice& slice = graph_.slices.back();
  slice.edge_count = graph_.offsets.back();
  slice.sums = sums;
}

EdgeList CollectSink::take() { return std::exchange(graph_, EdgeList{}); }

void replay(const EdgeList& graph, GraphSink& sink) {
  constexpr std::int64_t kBlockRows = 4096;
  sink.set_metadata(graph.metadata);
  std::vector<std::int64_t> offsets;
  const RowStatsView stats = graph.rows.view();
  for (const Slice& slice : graph.slices) {
    sink.begin_slice(slice.info, graph.weight_dtype);
    const std::int64_t* slice_offsets = graph.offsets.data() + slice.first_offset;
    for (std::int64_t first = 0; first < slice.info.query_count; first += kBlockRows) {
      const std::int64_t count = std::min(kBlockRows, slice.info.query_count - first);
      const std::int64_t base = slice_offsets[first];
      offsets.assign(slice_offsets + first, slice_offsets + first + count + 1);
      for (std::int64_t& offset : offsets) offset -= base;
      const std::int64_t edge = slice.first_edge + base;
      sink.rows({slice.info.query_begin + first, count, offsets.data(), graph.keys.data() + edge,
                 graph.weight_data(edge), graph.weight_dtype, stats.from(slice.first_row + first)});
    }
    sink.end_slice(slice.sums);
  }
  sink.finish(graph.report);
}

}  // namespace ag
