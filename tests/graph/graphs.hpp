// SPDX-License-Identifier: Apache-2.0
// Graphs to ask questions about: random ones, and small ones written down row by row.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "graph/operations.hpp"

namespace ag {

struct KeyWeight {
  std::int32_t key;
  double weight;
};

class GraphBuilder {
 public:
  explicit GraphBuilder(DType weight_dtype = DType::kF32) : dtype_(weight_dtype) {}

  GraphBuilder& slice(SliceId id, std::int64_t query_begin, std::int64_t key_count) {
    slices_.push_back({{id, query_begin, 0, key_count}, {}, {}});
    return *this;
  }

  // Statistics as a backend would give them: all keys known, their mass kept.
  GraphBuilder& row(const std::vector<KeyWeight>& edges) {
    RowStats stats;
    stats.logsumexp = 1;
    stats.max_key = 0;
    stats.maximum = 0;
    stats.kept_mass = 0;
    for (const KeyWeight& e : edges) stats.kept_mass += e.weight;
    return row(edges, stats);
  }
  GraphBuilder& row(const std::vector<KeyWeight>& edges, const RowStats& stats) {
    Pending& slice = slices_.back();
    slice.rows.push_back(edges);
    slice.stats.push_back(stats);
    slice.info.query_count += 1;
    return *this;
  }

  EdgeList build(const Metadata& metadata = {}) const {
    CollectSink sink;
    sink.set_metadata(metadata);
    RunReport report;
    for (const Pending& slice : slices_) {
      sink.begin_slice(slice.info, dtype_);
      for (std::size_t r = 0; r < slice.rows.size(); ++r) {
        std::vector<std::int32_t> keys;
        std::vector<float> f32;
        std::vector<double> f64;
        for (const KeyWeight& e : slice.rows[r]) {
          keys.push_back(e.key);
          f32.push_back(static_cast<float>(e.weight));
          f64.push_back(e.weight);
        }
        const std::int64_t offsets[] = {0, static_cast<std::int64_t>(keys.size())};
        const void* weights = dtype_ == DType::kF64 ? static_cast<const void*>(f64.data()) : f32.data();
        sink.rows({slice.info.query_begin + static_cast<std::int64_t>(r), 1, offsets, keys.data(), weights, dtype_,
                   slice.stats.view().from(static_cast<std::int64_t>(r))});
        report.rows_with_keys += slice.stats.max_key[r] >= 0 ? 1 : 0;
        report.empty_rows += slice.stats.max_key[r] >= 0 ? 0 : 1;
        report.kept_mass_sum += slice.stats.kept_mass[r];
      }
      sink.end_slice({});
    }
    sink.finish(report);
    return sink.take();
  }

 private:
  struct Pending {
    SliceInfo info;
    std::vector<std::vector<KeyWeight>> rows;
    RowColumns stats;
  };
  DType dtype_;
  std::vector<Pending> slices_;
};

// Two batches, two layers, three heads; rows without keys, rows without edges, a query range that does not begin at 0,
// and weights from a small set, so that ties and thresholds that weights equal abound.
inline EdgeList random_graph(unsigned seed, DType weight_dtype = DType::kF32) {
  std::mt19937 random(seed);
  const auto draw = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<unsigned>(n)); };
  GraphBuilder builder(weight_dtype);
  for (std::int64_t batch = 0; batch < 2; ++batch) {
    for (std::int64_t layer = 3; layer < 5; ++layer) {
      for (std::int64_t head = 0; head < 3; ++head) {
        const std::int64_t begin = 2 * head, keys = 10 + layer;
        builder.slice({batch, layer, head}, begin, keys);
        for (std::int64_t r = 0; r < 12; ++r) {
          std::vector<KeyWeight> edges;
          RowStats stats;
          if (r % 5 != 3) {
            for (std::int64_t key = 0; key < keys; ++key) {
              const double weight = r % 5 == 4 || draw(2) == 0 ? 0 : static_cast<double>(1 + draw(16)) / 16;
              if (weight > 0) edges.push_back({static_cast<std::int32_t>(key), weight});
              stats.kept_mass += weight;
            }
            stats.logsumexp = 0.5;
            stats.maximum = 1.5;
            stats.max_key = 0;
            stats.entropy = static_cast<double>(draw(100)) / 50;
          }
          builder.row(edges, stats);
        }
      }
    }
  }
  return builder.build();
}

inline std::vector<Edge> table_of(const EdgeList& graph, const Slice& slice) {
  std::vector<Edge> table;
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    const auto at = static_cast<std::size_t>(slice.first_offset + r);
    for (std::int64_t e = slice.first_edge + graph.offsets[at]; e < slice.first_edge + graph.offsets[at + 1]; ++e) {
      table.push_back(
          {slice.info.id, slice.info.query_begin + r, graph.keys[static_cast<std::size_t>(e)], graph.weight(e)});
    }
  }
  return table;
}

inline std::vector<Edge> table_of(const EdgeList& graph) {
  std::vector<Edge> table;
  for (const Slice& slice : graph.slices) {
    const std::vector<Edge> part = table_of(graph, slice);
    table.insert(table.end(), part.begin(), part.end());
  }
  return table;
}

}  // namespace ag
