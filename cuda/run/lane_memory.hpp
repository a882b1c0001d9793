// SPDX-License-Identifier: Apache-2.0
// What a lane keeps on its device from one batch to the next and from one call to the next, so that a call like the
// last one allocates nothing.
#pragma once

#include "../stages/score_pass.hpp"
#include "../stages/stages.hpp"
#include "tensors.hpp"

namespace ag::cuda {

struct LaneMemory {
  KeptBuffer<std::byte> tables;         // chunks, and the small arrays that they point to
  KeptBuffer<std::byte> inputs, masks;  // of host memory
  Uploads::Sent inputs_sent;
  KeptBuffer<double> q_norms, k_norms, given;
  KeptBuffer<std::uint8_t> bad_keys;
  KeptBuffer<ChunkFacts> facts;
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
  KeptBuffer<double> sums;
  KeptBuffer<FinishReport> report;
  KeptBuffer<std::byte> scan;
  KeptBuffer<float> dense;
  PassMemory pass;
};

}  // namespace ag::cuda
