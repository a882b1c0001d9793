// SPDX-License-Identifier: Apache-2.0
// Rows of a finished chunk to the sink, in blocks that stay small for a sink which writes a file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../../src/core/row_block.hpp"
#include "../../src/plan/plan.hpp"

namespace ag::cuda {

inline constexpr std::int64_t kBlockRows = 512;
inline constexpr std::int64_t kBlockEdges = std::int64_t{1} << 20;  // aimed at; one row may have more

// Statistics of `rows` rows that have come from a device, which writes them as columns: logsumexp, maximum, kept mass,
// entropy if it was asked for, one after the other. eps may be null.
inline RowStatsView stats_of(std::int64_t rows, const double* figures, bool entropy, const std::int32_t* max_keys,
                             const float* eps) {
  return {figures, figures + rows, figures + 2 * rows, entropy ? figures + 3 * rows : nullptr, max_keys, eps};
}

// Rows [0, rows) whose edges are those at offsets[first + r]; query numbers begin at query_begin. Weight is float or
// double.
template <class Weight>
void deliver_rows(RowSink& sink, std::int64_t query_begin, std::int64_t rows, const std::int64_t* offsets,
                  const std::int32_t* keys, const Weight* weights, const RowStatsView& stats) {
  std::vector<std::int64_t> own;
  for (std::int64_t begin = 0; begin < rows;) {
    const std::int64_t base = offsets[begin];
    std::int64_t end = begin + 1;
    while (end < rows && end - begin < kBlockRows && offsets[end + 1] - base <= kBlockEdges) ++end;
    own.assign(offsets + begin, offsets + end + 1);
    for (std::int64_t& offset : own) offset -= base;
    sink.rows({query_begin + begin, end - begin, own.data(), keys + base, weights + base,
               sizeof(Weight) == 8 ? DType::kF64 : DType::kF32, stats.from(begin)});
    begin = end;
  }
}

// A chunk's sums into its slice's, whose distances begin earlier.
inline void add_sums(SliceSums& total, const SliceSums& part) {
  for (std::size_t n = 0; n < part.received.size(); ++n) total.received[n] += part.received[n];
  const auto shift = static_cast<std::size_t>(part.distance_begin - total.distance_begin);
  for (std::size_t n = 0; n < part.distances.size(); ++n) total.distances[shift + n] += part.distances[n];
}

// What is tried once after device memory was exhausted: a quarter of the rows, one batch at a time.
inline Plan shrunk(Plan plan) {
  plan.workspace_bytes /= 4;
  plan.cuda.lanes = 1;
  plan.cuda.chunks_per_batch = 1;
  plan.cuda.heads_per_chunk = 1;
  plan.cuda.queries_per_chunk = std::max<std::int64_t>(1, plan.cuda.queries_per_chunk / 4);
  return plan;
}

}  // namespace ag::cuda
