// SPDX-License-Identifier: Apache-2.0
// The fused pipeline: the sums of all rows, the cuts that follow from them, and what reaches the cuts.
#include <algorithm>
#include <cstdint>

#include "../../src/plan/cuda_rooms.hpp"
#include "../device/error.hpp"
#include "../stages/passes.hpp"
#include "../wgmma/wgmma_pass.hpp"
#include "instances.hpp"
#include "shape.hpp"

namespace ag::cuda {
namespace {

// Keys of chunks whose blocks run together, so that they stay in L2.
constexpr std::int64_t kKeyBytesTogether = 24 << 20;

template <Variant kVariant>
cudaError_t row_sums(const StreamingArguments& a, cudaStream_t stream) {
  switch (static_cast<DType>(a.operands.dtype)) {
    case DType::kF16: return launch_row_sums_of<DType::kF16, kVariant>(a, stream);
    case DType::kBF16: return launch_row_sums_of<DType::kBF16, kVariant>(a, stream);
    case DType::kF32: return launch_row_sums_of<DType::kF32, kVariant>(a, stream);
    default: return cudaErrorInvalidValue;
  }
}

template <Variant kVariant>
cudaError_t row_edges(const StreamingArguments& a, cudaStream_t stream) {
  switch (static_cast<DType>(a.operands.dtype)) {
    case DType::kF16: return launch_row_edges_of<DType::kF16, kVariant>(a, stream);
    case DType::kBF16: return launch_row_edges_of<DType::kBF16, kVariant>(a, stream);
    case DType::kF32: return launch_row_edges_of<DType::kF32, kVariant>(a, stream);
    default: return cudaErrorInvalidValue;
  }
}

class StreamingPass : public ScorePass {
 public:
  std::string_view name() const override { return "cuda_streaming"; }
  bool splits_f32() const override { return true; }
  bool packs_rows() const override { return true; }
  bool compares_base2(const PassWork& work) const override {
    return work.mask_tensor || work.alibi || work.softcap > 0 || work.options.top_k > 0;
  }
  bool packs_candidates(const PassOptions&) const override { return false; }

  void statistics(const PassWork& work, PassMemory& memory, cudaStream_t stream) const override {
    if (work.operands.pitch > kLargestStreamingHeadDim || work.operands.pitch % 16 != 0) {
      fail(Status::kInternal, "cuda_streaming was given rows of {} elements; they are a multiple of 16 up to {}",
           work.operands.pitch, kLargestStreamingHeadDim);
    }
    const std::int64_t rows = work.batch.rows;
    memory.top.resize(work.options.splits * rows, stream);
    memory.cuts.resize(rows * static_cast<std::int64_t>(sizeof(RowCut)), stream);
    if (work.options.top_k > 0) {
      const GroupTops groups = groups_of(work, nullptr);
      memory.group_tops.resize(rows * groups.count, stream);
      // A NaN of all bits has the lowest order of all: groups that no key belongs to.
      cuda_check(cudaMemsetAsync(memory.group_tops.data(), 0xFF, memory.group_tops.bytes(), stream), "groups of keys");
    }
    const StreamingArguments a = arguments(work, {}, memory);
    const bool general = compares_base2(work);
    if (work.wgmma) {
      run_wgmma_statistics(a, work.items, stream);
    } else {
      cuda_check(general     ? row_sums<Variant::kGeneral>(a, stream)
                 : a.entropy ? row_sums<Variant::kEntropy>(a, stream)
                             : row_sums<Variant::kLean>(a, stream),
                 "row_sums");
    }
    cuda_check(launch_row_cuts(a, reinterpret_cast<RowCut*>(memory.cuts.data()), work.options.top_k, general, stream),
               "row_cuts");
  }

  void candidates(const PassWork& work, const Candidates& candidates, PassMemory& memory,
                  cudaStream_t stream) const override {
    if (work.wgmma) {
      return run_wgmma_edges(arguments(work, candidates, memory), work.items + (candidates.keys == nullptr ? 1 : 2),
                             stream);
    }
    if (work.options.splits > 1) {  // blocks of a row count together; the first time row_cuts has cleared the counts
      cuda_check(cudaMemsetAsync(candidates.count, 0, static_cast<std::size_t>(work.batch.rows) * sizeof(std::int32_t),
                                 stream),
                 "counts of candidates");
    }
    const StreamingArguments a = arguments(work, candidates, memory);
    cuda_check(compares_base2(work) ? row_edges<Variant::kGeneral>(a, stream) : row_edges<Variant::kLean>(a, stream),
               "row_edges");
  }

 private:
  static GroupTops groups_of(const PassWork& work, float* top) {
    const KeyGroups groups = key_groups(work.batch.keys, work.options.top_k, work.options.splits);
    return {top, groups.count, groups.tiles};
  }

  static StreamingArguments arguments(const PassWork& work, const Candidates& candidates, const PassMemory& memory) {
    StreamingArguments a;
    a.batch = work.batch;
    a.operands = work.operands;
    a.splits = work.options.splits;
    const std::int64_t key_bytes = std::max<std::int64_t>(1, work.batch.most_keys * work.operands.row_bytes());
    a.chunk_group =
        static_cast<std::int32_t>(std::clamp<std::int64_t>(kKeyBytesTogether / key_bytes, 1, work.batch.count));
    a.softcap = static_cast<float>(work.softcap);
    a.states = work.states;
    a.top = memory.top.data();
    a.entropy = work.options.entropy;
    if (work.options.top_k > 0) a.groups = groups_of(work, memory.group_tops.data());
    a.cuts = reinterpret_cast<const RowCut*>(memory.cuts.data());
    a.candidates = candidates;
    a.candidates.count = work.count;
    return a;
  }
};

}  // namespace

const ScorePass& streaming_pass() {
  static const StreamingPass pass;
  return pass;
}

}  // namespace ag::cuda
