// SPDX-License-Identifier: Apache-2.0
// The one thing in which the two backends differ: how rows get from operands to states and candidates. Everything
// before it (checks, norms, operands) and after it (decision, order, copy) is the same code.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "../../src/core/problem.hpp"
#include "../device/device_buffer.hpp"
#include "work.hpp"

namespace ag::cuda {

// Launches of the wgmma kernels in a batch: statistics, counts of candidates, candidates.
inline constexpr int kItemCounters = 3;

// A batch as the host knows it.
struct PassWork {
  Batch batch;
  std::vector<Chunk> chunks;                // the table, as it was before the device judged it
  std::int64_t key_begin = 0, key_end = 0;  // keys that some query may see
  bool mask_tensor = false;
  bool alibi = false;           // slopes of distance
  bool skips_bad_keys = false;  // there may be some
  bool some_in_double = false;  // chunks that are, when candidates are written
  bool given_logsumexp = false;
  bool wgmma = false;  // cuda_streaming: by the kernels of sm_90a, which the plan names
  double scale = 1, softcap = 0;
  Operands operands;
  PassOptions options;
  RowStates states;
  std::int32_t* count = nullptr;  // [rows] of candidates
  std::int32_t* items = nullptr;  // [kItemCounters] device, 0 when the batch begins: what blocks of wgmma have taken
  DenseWeights dense;             // cuda_materialised only
  std::size_t workspace_bytes = 0;
};

// What passes keep on the device from one batch to the next, used in the order of one stream.
struct PassMemory {
  KeptBuffer<float> top, group_tops;  // cuda_streaming
  KeptBuffer<std::byte> cuts;
  KeptBuffer<std::byte> scratch;  // cuda_materialised
};

class ScorePass {
 public:
  virtual ~ScorePass() = default;
  virtual std::string_view name() const = 0;  // of the backend: "cuda_streaming", "cuda_materialised"
  // Whether f32 operands come split into two f16 or as they are, and rows packed (work.hpp).
  virtual bool splits_f32() const = 0;
  virtual bool packs_rows() const = 0;
  // Whether it makes the scores of this batch base 2 before it compares them.
  virtual bool compares_base2(const PassWork& work) const = 0;
  // Whether candidates() needs rows whose candidates have been counted.
  virtual bool packs_candidates(const PassOptions& options) const = 0;

  // Both queue their work on the stream and throw ag::Error when a launch is refused. Chunks that are done in double
  // are left alone. After statistics() states are written, cuts known, and chunks flagged whose biases need double.
  virtual void statistics(const PassWork& work, PassMemory& memory, cudaStream_t stream) const = 0;
  // After statistics() of the same batch, once or, with keys null first, twice.
  virtual void candidates(const PassWork& work, const Candidates& candidates, PassMemory& memory,
                          cudaStream_t stream) const = 0;
};

}  // namespace ag::cuda
