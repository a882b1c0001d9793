// SPDX-License-Identifier: Apache-2.0
// What a lane keeps on its device from one batch to the next and from one call to the next, so that a call like the
// last one allocates nothing.
#pragma once

#include "../stages/score_pass.hpp"
#include "../stages/stages.hpp"
#include "tensors.hpp"

namespace ag::cuda {

// What is found out about a batch, in one piece of memory, so that it is cleared and brought to the host at once. After
// it come the ChunkFacts of all chunks.
struct BatchVerdict {
  FinishReport report;
  std::int32_t items[kItemCounters] = {};

  static constexpr std::int64_t facts_at() { return (static_cast<std::int64_t>(sizeof(BatchVerdict)) + 15) / 16 * 16; }
  static std::int64_t bytes(std::int64_t chunks) {
    return facts_at() + chunks * static_cast<std::int64_t>(sizeof(ChunkFacts));
  }
};

struct LaneMemory {
  KeptBuffer<std::byte> tables;         // chunks, and the small arrays that they point to
  KeptBuffer<std::byte> inputs, masks;  // of host memory
  Uploads::Sent inputs_sent;
  KeptBuffer<double> q_norms, k_norms, given;
  KeptBuffer<std::uint8_t> bad_keys;
  KeptBuffer<std::byte> verdict;  // BatchVerdict, and the facts of its chunks
  KeptBuffer<std::byte> q_operand, k_operand;
  KeptBuffer<double> states;
  KeptBuffer<std::int32_t> state_keys, candidate_count, candidate_keys;
  KeptBuffer<float> candidate_scores;
  KeptBuffer<double> candidate_weights;
  KeptBuffer<std::int64_t> candidate_offsets;
  KeptBuffer<double> figures;
  KeptBuffer<float> row_eps;
  KeptBuffer<std::int32_t> max_keys, edge_keys;
  KeptBuffer<std::int64_t> offsets, edge_counts;
  KeptBuffer<float> edge_weights;
  std::int64_t last_rows = 0, last_edges = 0;  // of the last batch: the next one may be like it
  KeptBuffer<double> sums;
  KeptBuffer<std::byte> scan;
  KeptBuffer<float> dense;
  PassMemory pass;
};

}  // namespace ag::cuda
