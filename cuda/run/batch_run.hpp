// SPDX-License-Identifier: Apache-2.0
// One batch of an extraction, from operands to finished rows.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../../src/core/row_block.hpp"
#include "../stages/stages.hpp"
#include "batch_inputs.hpp"

namespace ag::cuda {

// Edges that stay on the device: those of the batch's row r at offsets[r].
struct DeviceEdges {
  DeviceBuffer<std::int64_t> offsets;
  DeviceBuffer<std::int32_t> keys;
  DeviceBuffer<float> weights;
};

// Statistics that stay beside them: all that a graph keeps.
struct DeviceRows {
  DeviceBuffer<double> figures;  // logsumexp, maximum, kept mass, entropy when it is asked for: [3 or 4][rows]
  DeviceBuffer<std::int32_t> max_keys;
};

// Finished rows, chunk after chunk, head after head. Kept for later batches and calls, for its pinned memory.
struct BatchResult {
  PinnedBuffer<std::int64_t> offsets;  // [rows + 1]; when edges stay on the device, their number alone
  PinnedBuffer<std::int32_t> keys;     // none when edges stay on the device, nor any of stats
  PinnedBuffer<float> weights;
  std::int64_t row_count = 0;  // of stats
  RowStatsView stats;          // of what is pinned below
  DeviceEdges on_device;
  DeviceRows rows_on_device;
  std::vector<SliceSums> sums;  // of each head, when they are asked for
  RunReport report;

  // On their way:
  PinnedBuffer<float> row_eps;
  PinnedBuffer<double> figures;  // as DeviceRows has them
  PinnedBuffer<std::int32_t> max_keys;
  PinnedBuffer<double> sum_values;
  PinnedBuffer<std::byte> verdict;
};

// A result that is taken from those that nobody uses, and left for others.
class KeptResult {
 public:
  KeptResult() = default;
  ~KeptResult();
  KeptResult(const KeptResult&) = delete;
  KeptResult& operator=(const KeptResult&) = delete;
  BatchResult& get();

 private:
  std::unique_ptr<BatchResult> result_;
};

// Gives back the pinned memory of results that nobody uses.
void release_idle_results();

// Queues the batch on the lane and waits for it, once for the number of edges and once for the edges.
void run_batch(const ExtractJob& job, std::span<const ChunkSpan> spans, Lane& lane, const Poll& poll,
               BatchResult& result);

}  // namespace ag::cuda
