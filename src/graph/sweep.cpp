// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "operations.hpp"
#include "threshold_fact.hpp"

namespace ag {

bool has_keys(double maximum, std::int32_t max_key, std::int64_t edges) {
  return max_key >= 0 || edges > 0 || std::isnan(maximum);
}

std::optional<double> threshold_fact(const Metadata& metadata) {
  const auto fact = metadata.facts.find("threshold");
  if (fact == metadata.facts.end()) return std::nullopt;
  const std::string& text = fact->second;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !(value >= 0 && std::isfinite(value)))
    return std::nullopt;
  return value;
}

double stored_cut(const Metadata& metadata, DType weight_dtype, double t) {
  if (t <= threshold_fact(metadata).value_or(0)) return -std::numeric_limits<double>::infinity();
  const auto weights = metadata.facts.find("weights");
  const bool rounded = weight_dtype == DType::kF32 && weights != metadata.facts.end() && weights->second == "softmax";
  return rounded ? static_cast<double>(static_cast<float>(t)) : t;
}

void PositionRanks::raise(std::int64_t position, std::int32_t rank) {
  const std::int64_t number = position >> kPageBits;
  if (last_page_ == nullptr || number != last_number_) {
    last_page_ = &pages_[number];  // value-initialised: rank 0; pages keep their address while others come
    last_number_ = number;
  }
  std::int32_t& stored = (*last_page_)[static_cast<std::size_t>(position) & ((std::size_t{1} << kPageBits) - 1)];
  stored = std::max(stored, rank);
}

SweepSink::SweepSink(std::vector<double> thresholds)
    : thresholds_(std::move(thresholds)),
      order_(thresholds_.size()),
      cuts_(thresholds_.size()),
      edges_(thresholds_.size()),
      nodes_(thresholds_.size()),
      mass_(thresholds_.size()) {
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::stable_sort(order_.begin(), order_.end(),
                   [this](std::size_t a, std::size_t b) { return thresholds_[a] < thresholds_[b]; });
}

void SweepSink::begin_slice(const SliceInfo&, DType weight_dtype) {
  for (std::size_t n = 0; n < cuts_.size(); ++n) cuts_[n] = stored_cut(metadata_, weight_dtype, thresholds_[order_[n]]);
}

void SweepSink::rows(const RowBlock& block) {
  for (std::int64_t r = 0; r < block.row_count; ++r) {
    const std::int64_t begin = block.offsets[r];
    const std::int64_t end = block.offsets[r + 1];
    rows_with_keys_ += has_keys(block.stats.maximum[r], block.stats.max_key[r], end - begin) ? 1 : 0;
    std::int32_t row_rank = 0;
    for (std::int64_t e = begin; e < end; ++e) {
      const double weight = block.weight(e);
      const auto rank = static_cast<std::int32_t>(std::upper_bound(cuts_.begin(), cuts_.end(), weight) - cuts_.begin());
      if (rank == 0) continue;
      edges_[static_cast<std::size_t>(rank - 1)] += 1;
      mass_[static_cast<std::size_t>(rank - 1)] += weight;
      row_rank = std::max(row_rank, rank);
      ranks_.raise(block.keys[e], rank);
    }
    if (row_rank > 0) ranks_.raise(position_of(block.query_begin + r, query_offset_), row_rank);
  }
}

void SweepSink::end_slice(const SliceSums&) {
  ranks_.drain([this](std::int32_t rank) { nodes_[static_cast<std::size_t>(rank - 1)] += 1; });
}

std::vector<SweepRow> SweepSink::result() const {
  std::vector<SweepRow> out(thresholds_.size());
  // What reaches a threshold is what reaches exactly it or any above it.
  SweepRow above;
  for (std::size_t n = order_.size(); n-- > 0;) {
    above.edges += edges_[n];
    above.nodes += nodes_[n];
    above.kept_mass += mass_[n];
    const double mean = rows_with_keys_ > 0 ? above.kept_mass / static_cast<double>(rows_with_keys_) : 0.0;
    out[order_[n]] = {thresholds_[order_[n]], above.edges, mean, above.nodes};
  }
  return out;
}

std::vector<SweepRow> sweep(const EdgeList& graph, std::span<const double> thresholds) {
  SweepSink sink({thresholds.begin(), thresholds.end()});
  replay(graph, sink);
  return sink.result();
}

}  // namespace ag
