// SPDX-License-Identifier: Apache-2.0
// The fused pipeline: one kernel from operands to states and candidates, or the same kernel twice.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../common/error.hpp"
#include "../common/key_range.hpp"
#include "../common/passes.hpp"
#include "instances.hpp"
#include "shape.hpp"

namespace ag::cuda {
namespace {

constexpr double kLn2 = 0.69314718055994530942;
constexpr double kLog2E = 1.4426950408889634074;

// Candidates reach t less a margin, and at most e^margin / t of them fit in a row. A margin is the row's band, at most
// 2 kWidestBand with an additive mask (band.hpp), and the rounding of the cut: 2^-13, and 2^-21 of its size, which is
// below 2^17 or float could not hold the band. Together less than ln 1.08.
constexpr double kBandRoom = 1.08;
constexpr std::int64_t kLargestStep = 32;
constexpr std::int64_t kLargestTile = 128;

bool is_general(const Chunk& chunk, const PassOptions& options) {
  return chunk.mask.tensor.data != nullptr || chunk.softcap > 0 || options.entropy;
}

// With a given logsumexp or a sum that is known, or a sink, rows have cuts before their first key.
bool has_cuts(const Chunk& chunk, const PassOptions& options) {
  return chunk.given_logsumexp != nullptr || chunk.sink != nullptr || options.two_passes;
}

// Factors of scores this far from 1 belong to products so small, or so large, that their band sends them to rows_f64;
// the limits only keep the kernel's quotients finite.
float safe_unit(double unit) { return static_cast<float>(std::clamp(unit, 0x1p-100, 0x1p100)); }

void set_units(const Chunk& chunk, const Operands& operands, bool general, StreamingArguments& a) {
  double factor = std::abs(chunk.scale);
  if (chunk.scale < 0) a.query_xor = 0x80008000u;  // the sign bits of two f16 or bf16
  if (factor == 0) {
    a.query_and = 0;  // products of 0 are scores of 0, whatever the factor
    factor = 1;
  }
  if (operands.split) factor = std::ldexp(factor, -(operands.q_exponent + operands.k_exponent));
  if (!general) {
    a.unit = safe_unit(factor * kLog2E);
    a.natural_unit = factor;
  } else {
    a.unit = safe_unit(chunk.softcap > 0 ? factor / chunk.softcap : factor * kLog2E);
    a.natural_unit = kLn2;
    a.softcap = static_cast<float>(chunk.softcap);
  }
}

cudaError_t launch(const StreamingArguments& a, bool general, cudaStream_t stream) {
  switch (static_cast<DType>(a.operands.dtype)) {
    case DType::kF16:
      return general ? launch_attention_edges_of<DType::kF16, Variant::kGeneral>(a, stream)
                     : launch_attention_edges_of<DType::kF16, Variant::kLean>(a, stream);
    case DType::kBF16:
      return general ? launch_attention_edges_of<DType::kBF16, Variant::kGeneral>(a, stream)
                     : launch_attention_edges_of<DType::kBF16, Variant::kLean>(a, stream);
    case DType::kF32:
      return general ? launch_attention_edges_of<DType::kF32, Variant::kGeneral>(a, stream)
                     : launch_attention_edges_of<DType::kF32, Variant::kLean>(a, stream);
    default: return cudaErrorInvalidValue;
  }
}

class StreamingPass : public ScorePass {
 public:
  std::string_view name() const override { return "cuda_streaming"; }
  bool packs_candidates() const override { return false; }
  bool splits_f32() const override { return true; }
  std::int64_t largest_head_dim() const override { return kLargestStreamingHeadDim; }

  std::size_t scratch_bytes(const Chunk& chunk, const PassOptions& options, std::size_t) const override {
    return has_cuts(chunk, options) ? static_cast<std::size_t>(chunk.rows()) * sizeof(float) : 0;
  }

  std::int64_t row_capacity(const Chunk& chunk, const PassOptions& options, bool sure) const override {
    if (chunk.rows() == 0) return 0;
    const std::int64_t end = key_range(chunk.mask, chunk.query_begin + chunk.queries - 1).end;
    std::int64_t most = std::max<std::int64_t>(0, end - key_range(chunk.mask, chunk.query_begin).begin);
    if (options.splits > 1) {  // of tiles, which are divided evenly
      most = std::min(most, (most + kLargestTile) / options.splits + 2 * kLargestTile);
    }
    // A given logsumexp that is too small lets more pairs pass than weights that sum to 1 could.
    if ((chunk.given_logsumexp == nullptr || !sure) && chunk.log_threshold > -40) {
      const double bound = kBandRoom * std::exp(-chunk.log_threshold) + kLargestStep;
      if (bound < static_cast<double>(most)) most = static_cast<std::int64_t>(bound);
    }
    // Of equals around the top_k-th best none may be dropped.
    if (options.top_k > 0 && !sure) most = std::min(most, std::min(options.top_k, most) * 4 + 4 * kLargestStep);
    return most;
  }

  void run(const Chunk& chunk, const Operands& operands, const RowFacts& facts, const PassOptions& options,
           PassMemory& memory, cudaStream_t stream) const override {
    if (operands.pitch > kLargestStreamingHeadDim || operands.pitch % 16 != 0) {
      fail(Status::kInternal, "cuda_streaming was given rows of {} elements; they are a multiple of 16 up to {}",
           operands.pitch, kLargestStreamingHeadDim);
    }
    if (memory.scratch.bytes() < scratch_bytes(chunk, options, 0)) {
      fail(Status::kInternal, "the scratch of cuda_streaming has {} bytes; the chunk needs {}", memory.scratch.bytes(),
           scratch_bytes(chunk, options, 0));
    }
    const bool general = is_general(chunk, options);
    auto* const cuts = has_cuts(chunk, options) ? reinterpret_cast<float*>(memory.scratch.data()) : nullptr;
    StreamingArguments a;
    a.chunk = chunk;
    a.operands = operands;
    a.facts = facts;
    a.states = memory.states;
    a.candidates = memory.candidates;
    a.cuts = cuts;
    a.top_k = options.top_k;
    a.entropy = options.entropy;
    a.log2_threshold = static_cast<float>(chunk.log_threshold * kLog2E);
    set_units(chunk, operands, general, a);

    if (chunk.given_logsumexp != nullptr) {
      cuda_check(launch_row_cuts(chunk, facts, {}, cuts, stream), "launch_row_cuts");
      a.cut_source = CutSource::kFixed;
      a.sums = options.entropy;
      cuda_check(launch(a, general, stream), "launch_attention_edges");
    } else if (options.two_passes) {
      StreamingArguments statistics = a;
      statistics.candidates = {};
      statistics.cut_source = CutSource::kNone;
      statistics.sums = true;
      cuda_check(launch(statistics, general, stream), "launch_attention_edges");
      cuda_check(launch_row_cuts(chunk, facts, memory.states, cuts, stream), "launch_row_cuts");
      a.cut_source = CutSource::kFixed;
      a.sums = a.entropy = false;
      a.states = {};  // they are written
      a.states.splits = memory.states.splits;
      cuda_check(launch(a, general, stream), "launch_attention_edges");
    } else {
      if (chunk.sink != nullptr) {
        RowStates none;
        none.splits = 0;
        cuda_check(launch_row_cuts(chunk, facts, none, cuts, stream), "launch_row_cuts");
      }
      a.cut_source = CutSource::kOnline;
      a.sums = true;
      cuda_check(launch(a, general, stream), "launch_attention_edges");
    }
  }
};

}  // namespace

const ScorePass& streaming_pass() {
  static const StreamingPass pass;
  return pass;
}

}  // namespace ag::cuda
