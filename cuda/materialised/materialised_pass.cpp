// SPDX-License-Identifier: Apache-2.0
// The textbook pipeline: all scores of a chunk by cuBLAS, one kernel over them, a scan of the counts, a compaction.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "../common/key_range.hpp"
#include "../common/passes.hpp"
#include "../common/stages.hpp"
#include "cublas.hpp"
#include "kernels.hpp"

namespace ag::cuda {
namespace {

constexpr std::int64_t kAlignment = 256;  // of the parts of the scratch

std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

// Where a chunk's numbers lie in its scratch, in bytes.
struct Layout {
  std::int64_t key_begin = 0, width = 0;  // keys that some query of the chunk may see
  std::int64_t pitch = 0, words = 0;
  std::int64_t scores = 0, bits = 0, counts = 0, candidate_counts = 0, scan = 0, end = 0;
};

Layout layout_of(const Chunk& chunk) {
  Layout at;
  if (chunk.queries > 0) {
    at.key_begin = key_range(chunk.mask, chunk.query_begin).begin;
    at.width =
        std::max<std::int64_t>(0, key_range(chunk.mask, chunk.query_begin + chunk.queries - 1).end - at.key_begin);
  }
  const std::int64_t rows = chunk.rows();
  at.pitch = round_up(at.width, 32);
  at.words = bit_words(at.width);
  std::int64_t end = 0;
  const auto place = [&end](std::int64_t& part, std::int64_t bytes) {
    part = end;
    end = round_up(end + bytes, kAlignment);
  };
  place(at.scores, rows * at.pitch * static_cast<std::int64_t>(sizeof(float)));
  place(at.bits, rows * at.words * static_cast<std::int64_t>(sizeof(std::uint32_t)));
  place(at.counts, rows * static_cast<std::int64_t>(sizeof(std::int64_t)));
  place(at.candidate_counts, rows * static_cast<std::int64_t>(sizeof(std::int32_t)));
  place(at.scan, static_cast<std::int64_t>(exclusive_scan_scratch_bytes(rows)));
  at.end = end;
  return at;
}

// What NVIDIA recommends for its newest devices, as far as an eighth of a chunk's share of the workspace allows, of
// which two are in flight (plan_cuda keeps it free).
std::int64_t gemm_workspace_bytes(std::size_t workspace_bytes) {
  const auto share = static_cast<std::int64_t>(workspace_bytes / 16);
  return std::clamp<std::int64_t>(share / kAlignment * kAlignment, 64 << 10, 32 << 20);
}

Compaction resolve(Compaction asked) {
  if (asked != Compaction::kDefault) return asked;
  const char* const text = std::getenv("ATTNGRAPH_CUDA_COMPACTION");
  if (text == nullptr || *text == '\0' || std::string_view(text) == "ballot") return Compaction::kBallot;
  if (std::string_view(text) == "thrust") return Compaction::kThrust;
  fail(Status::kArgument, "ATTNGRAPH_CUDA_COMPACTION is '{}'; it is ballot or thrust", text);
}

class MaterialisedPass : public ScorePass {
 public:
  std::string_view name() const override { return "cuda_materialised"; }
  bool packs_candidates() const override { return true; }
  bool splits_f32() const override { return false; }

  std::size_t scratch_bytes(const Chunk& chunk, const PassOptions&, std::size_t workspace_bytes) const override {
    return static_cast<std::size_t>(layout_of(chunk).end + gemm_workspace_bytes(workspace_bytes));
  }

  void run(const Chunk& chunk, const Operands& operands, const RowFacts& facts, const PassOptions& options,
           PassMemory& memory, cudaStream_t stream) const override {
    const Layout at = layout_of(chunk);
    const std::int64_t rows = chunk.rows();
    std::byte* const scratch = memory.scratch.data();
    if (static_cast<std::int64_t>(memory.scratch.bytes()) < at.end) {
      fail(Status::kInternal, "the scratch of cuda_materialised has {} bytes; the chunk needs {}",
           memory.scratch.bytes(), at.end);
    }
    memory.states.splits = 1;
    memory.packed_offsets = DeviceBuffer<std::int64_t>(rows + 1, stream);
    auto* const scores = reinterpret_cast<float*>(scratch + at.scores);

    // The heads of a chunk read one key head: stacked, their rows are one product.
    ScoreGemm gemm;
    gemm.dtype = operands.dtype;
    gemm.q = operands.q;
    gemm.k = static_cast<const std::byte*>(operands.k) +
             at.key_begin * operands.pitch * static_cast<std::int64_t>(size_of(static_cast<DType>(operands.dtype)));
    gemm.rows = rows;
    gemm.keys = at.width;
    gemm.pitch = operands.pitch;
    gemm.scores = scores;
    gemm.score_pitch = at.pitch;
    queue_score_gemm(gemm, scratch + at.end, memory.scratch.bytes() - static_cast<std::size_t>(at.end), stream);

    SoftmaxRows softmax;
    softmax.scores = {scores, at.pitch, at.key_begin, at.width};
    softmax.chunk = chunk;
    softmax.facts = facts;
    softmax.states = memory.states;
    if (!options.entropy) softmax.states.weighted = nullptr;
    softmax.candidates = {reinterpret_cast<std::uint32_t*>(scratch + at.bits), at.words,
                          reinterpret_cast<std::int64_t*>(scratch + at.counts)};
    softmax.candidate_counts = reinterpret_cast<std::int32_t*>(scratch + at.candidate_counts);
    softmax.dense = memory.dense;
    softmax.top_k = options.top_k;
    cuda_check(launch_softmax_rows(softmax, stream), "softmax_rows");
    cuda_check(
        launch_exclusive_scan(softmax.candidates.counts, memory.packed_offsets.data(), rows, scratch + at.scan, stream),
        "exclusive_scan");

    std::int64_t count = 0;
    cuda_check(
        cudaMemcpyAsync(&count, memory.packed_offsets.data() + rows, sizeof(count), cudaMemcpyDeviceToHost, stream),
        "the number of candidates");
    cuda_check(cudaStreamSynchronize(stream), "the scores of a chunk");
    memory.packed_keys = DeviceBuffer<std::int32_t>(count, stream);
    memory.packed_scores = DeviceBuffer<float>(count, stream);

    CompactScores compact;
    compact.scores = softmax.scores;
    compact.chunk = chunk;
    compact.candidates = softmax.candidates;
    compact.offsets = memory.packed_offsets.data();
    compact.keys = memory.packed_keys.data();
    compact.out = memory.packed_scores.data();
    if (count > 0) {
      const bool thrust = resolve(options.compaction) == Compaction::kThrust;
      cuda_check(thrust ? compact_thrust(compact, stream) : launch_compact_ballot(compact, stream),
                 thrust ? "compact_thrust" : "compact_ballot");
    }
    memory.candidates = Candidates();
    memory.candidates.keys = memory.packed_keys.data();
    memory.candidates.scores = memory.packed_scores.data();
    memory.candidates.count = softmax.candidate_counts;
    memory.candidates.offsets = memory.packed_offsets.data();
  }
};

}  // namespace

const ScorePass& materialised_pass() {
  static const MaterialisedPass pass;
  return pass;
}

}  // namespace ag::cuda
