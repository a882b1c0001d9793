// SPDX-License-Identifier: Apache-2.0
// One chunk of an extraction, from operands to finished rows on the host.
#pragma once

#include <cstdint>
#include <vector>

#include "../../src/core/row_block.hpp"
#include "chunk_inputs.hpp"
#include "stages.hpp"

namespace ag::cuda {

// Finished rows, head after head. Reused, for its pinned memory.
struct ChunkResult {
  PinnedBuffer<std::int64_t> offsets;  // [rows + 1]
  PinnedBuffer<std::int32_t> keys;
  PinnedBuffer<float> weights;
  std::vector<RowStats> stats;
  std::vector<SliceSums> sums;  // of each head, when they are asked for
  RunReport report;

  // On their way:
  PinnedBuffer<double> weights_f64;
  PinnedBuffer<double> figures;  // logsumexp, maximum, kept mass, entropy: [4][rows]
  PinnedBuffer<std::int32_t> max_keys;
  PinnedBuffer<double> sum_values;
};

void run_chunk(const ExtractJob& job, const Group& group, const GroupData& data, const ChunkPlace& place, Lane& lane,
               const Poll& poll, ChunkResult& result);

}  // namespace ag::cuda
