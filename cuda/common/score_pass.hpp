// SPDX-License-Identifier: Apache-2.0
// The one thing in which the two backends differ: how rows get from operands to states and candidates. Everything
// before it (checks, norms, operands) and after it (decision, order, copy) is the same code.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../../src/core/problem.hpp"
#include "device_buffer.hpp"
#include "work.hpp"

namespace ag::cuda {

// Memory of one chunk, on the device, used on its stream alone. The caller allocates the states and, for a pass with
// fixed rows (packs_candidates() is false), the candidates.
struct PassMemory {
  RowStates states;
  Candidates candidates;
  DeviceBuffer<std::byte> scratch;  // scratch_bytes()
  DenseWeights dense;               // cuda_materialised only

  // What `candidates` points to when the pass packs its rows: it knows their sizes only after it has counted.
  DeviceBuffer<std::int32_t> packed_keys;
  DeviceBuffer<float> packed_scores;
  DeviceBuffer<std::int64_t> packed_offsets;
};

class ScorePass {
 public:
  virtual ~ScorePass() = default;
  virtual std::string_view name() const = 0;  // of the backend: "cuda_streaming", "cuda_materialised"
  // True: run() counts first and fills packed_*; false: it fills rows of candidates.capacity.
  virtual bool packs_candidates() const = 0;
  // Whether f32 operands come split into two f16 or as they are (work.hpp).
  virtual bool splits_f32() const = 0;
  // Heads larger than this go through rows_f64.
  virtual std::int64_t largest_head_dim() const { return kMaxHeadDim; }
  // Bytes of scratch that run() needs for this chunk (shape and mask ranges only). It grows with the chunk's queries:
  // the caller makes chunks small enough for its workspace.
  virtual std::size_t scratch_bytes(const Chunk& chunk, const PassOptions& options,
                                    std::size_t workspace_bytes) const = 0;
  // Of a pass with fixed rows: the candidates.capacity for this chunk (shape and mask ranges only). `sure`: enough
  // whatever the scores. Otherwise enough but for rows of many equal scores with top_k, and for a given logsumexp that
  // is not that of its row; finish_rows reports such rows, and the chunk is run again.
  virtual std::int64_t row_capacity(const Chunk& chunk, const PassOptions& options, bool sure) const {
    (void)options;
    (void)sure;
    return chunk.keys;
  }
  // Queue the pass on the stream. Throws ag::Error when a launch is refused. Must not wait for the device unless the
  // size of its candidates makes it (materialised: once a chunk).
  virtual void run(const Chunk& chunk, const Operands& operands, const RowFacts& facts, const PassOptions& options,
                   PassMemory& memory, cudaStream_t stream) const = 0;
};

}  // namespace ag::cuda
