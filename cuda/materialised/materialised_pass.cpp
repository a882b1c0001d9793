// SPDX-License-Identifier: Apache-2.0
// The textbook pipeline: all scores of a batch by cuBLAS, one kernel over them, a compaction.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "../../src/core/numbers.hpp"
#include "../stages/passes.hpp"
#include "../stages/stages.hpp"
#include "cublas.hpp"
#include "kernels.hpp"

namespace ag::cuda {
namespace {

constexpr std::int64_t kAlignment = 256;  // of the parts of the scratch

// Where a batch's numbers lie in its scratch, in bytes.
struct Layout {
  std::int64_t key_begin = 0, width = 0;  // keys that some query of the batch may see
  std::int64_t pitch = 0, words = 0;
  std::int64_t scores = 0, bits = 0, gemm = 0, end = 0;
};

// What NVIDIA recommends for its newest devices, as far as an eighth of a batch's share of the workspace allows, of
// which two are in flight (plan_cuda keeps it free).
std::int64_t gemm_workspace_bytes(std::size_t workspace_bytes) {
  const auto share = static_cast<std::int64_t>(workspace_bytes / 16);
  return std::clamp<std::int64_t>(share / kAlignment * kAlignment, 64 << 10, 32 << 20);
}

Layout layout_of(const PassWork& work) {
  Layout at;
  at.key_begin = work.key_begin;
  at.width = std::max<std::int64_t>(0, work.key_end - work.key_begin);
  const std::int64_t rows = work.batch.rows;
  at.pitch = round_up(at.width, 32);
  at.words = bit_words(at.width);
  std::int64_t end = 0;
  const auto place = [&end](std::int64_t& part, std::int64_t bytes) {
    part = end;
    end = round_up(end + bytes, kAlignment);
  };
  place(at.scores, rows * at.pitch * static_cast<std::int64_t>(sizeof(float)));
  place(at.bits, rows * at.words * static_cast<std::int64_t>(sizeof(std::uint32_t)));
  place(at.gemm, gemm_workspace_bytes(work.workspace_bytes));
  at.end = end;
  return at;
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
  bool splits_f32() const override { return false; }
  bool packs_rows() const override { return false; }
  bool compares_base2(const PassWork&) const override { return true; }
  bool packs_candidates(const PassOptions& options) const override {
    return resolve(options.compaction) == Compaction::kThrust;
  }

  void statistics(const PassWork& work, PassMemory& memory, cudaStream_t stream) const override {
    const Layout at = layout_of(work);
    std::byte* const scratch = memory.scratch.resize(at.end, stream);
    multiply(work, at, scratch, stream);

    SoftmaxRows softmax;
    softmax.scores = scores_of(at, scratch);
    softmax.batch = work.batch;
    softmax.states = work.states;
    if (!work.options.entropy) softmax.states.weighted = nullptr;
    softmax.candidates = bits_of(at, scratch);
    softmax.count = work.count;
    softmax.dense = work.dense;
    softmax.top_k = work.options.top_k;
    softmax.scale = work.scale;
    softmax.softcap = work.softcap;
    softmax.general = work.softcap > 0 || work.mask_tensor || work.alibi || work.skips_bad_keys;
    cuda_check(launch_softmax_rows(softmax, stream), "softmax_rows");
  }

  void candidates(const PassWork& work, const Candidates& candidates, PassMemory& memory,
                  cudaStream_t stream) const override {
    if (candidates.keys == nullptr) return;  // statistics() has counted them
    const Layout at = layout_of(work);
    CompactScores compact;
    compact.scores = scores_of(at, memory.scratch.data());
    compact.batch = work.batch;
    compact.candidates = bits_of(at, memory.scratch.data());
    compact.out = candidates;
    compact.scale = work.scale;
    compact.softcap = work.softcap;
    // Thrust packs what it finds, so there must be nothing that it leaves out.
    const bool thrust = resolve(work.options.compaction) == Compaction::kThrust && candidates.offsets != nullptr &&
                        !work.some_in_double;
    cuda_check(thrust ? compact_thrust(compact, stream) : launch_compact_ballot(compact, stream),
               thrust ? "compact_thrust" : "compact_ballot");
  }

 private:
  static ScoreMatrix scores_of(const Layout& at, std::byte* scratch) {
    return {reinterpret_cast<float*>(scratch + at.scores), at.pitch, at.key_begin, at.width};
  }
  static PairBits bits_of(const Layout& at, std::byte* scratch) {
    return {reinterpret_cast<std::uint32_t*>(scratch + at.bits), at.words, nullptr};
  }

  // The heads of a chunk read one key head: stacked, their rows are one product. Chunks of as many rows are one call.
  static void multiply(const PassWork& work, const Layout& at, std::byte* scratch, cudaStream_t stream) {
    const std::vector<Chunk>& chunks = work.chunks;
    const Operands& operands = work.operands;
    for (std::size_t first = 0; first < chunks.size();) {
      std::size_t end = first + 1;
      while (end < chunks.size() && chunks[end].rows() == chunks[first].rows()) ++end;
      const std::int64_t row_bytes = operands.row_bytes(), row = chunks[first].first_row;
      ScoreGemm gemm;
      gemm.dtype = operands.dtype;
      gemm.q = static_cast<const std::byte*>(operands.q) + row * row_bytes;
      gemm.k = static_cast<const std::byte*>(operands.k) +
               (static_cast<std::int64_t>(first) * work.batch.keys + at.key_begin) * row_bytes;
      gemm.rows = chunks[first].rows();
      gemm.keys = at.width;
      gemm.pitch = operands.pitch;
      gemm.scores = reinterpret_cast<float*>(scratch + at.scores) + row * at.pitch;
      gemm.score_pitch = at.pitch;
      gemm.count = static_cast<std::int64_t>(end - first);
      gemm.k_stride = work.batch.keys * operands.pitch;
      queue_score_gemm(gemm, scratch + at.gemm, static_cast<std::size_t>(at.end - at.gemm), stream);
      first = end;
    }
  }
};

}  // namespace

const ScorePass& materialised_pass() {
  static const MaterialisedPass pass;
  return pass;
}

}  // namespace ag::cuda
