// SPDX-License-Identifier: Apache-2.0
// The part of a plan that only CUDA backends have: how rows are cut into chunks that fit the workspace.
#include "cuda_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ag {
namespace {

constexpr std::int64_t kTileRows = 128;         // chunks are cut at its global multiples
constexpr std::int64_t kSlackCandidates = 256;  // a row's buffer is compacted when less than a tile of keys is free
constexpr std::int64_t kMaxRows = std::int64_t{1} << 24;  // of a chunk

std::int64_t round_up(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }
std::int64_t padded(std::int64_t head_dim) { return round_up(head_dim, 16); }

// An eighth of the device for a chunk in flight: inputs and the answers of others need their place too.
std::size_t workspace_of(const PlanOptions& options, const DeviceInfo& device) {
  if (options.workspace_bytes > 0) return options.workspace_bytes;
  const std::size_t share = device.memory_bytes / 8;
  return std::clamp<std::size_t>(share, std::size_t{64} << 20, std::size_t{2} << 30);
}

// More blocks than multiprocessors by splitting the keys, when the queries of all heads that share them are few. Never
// from the rows and heads that one call asks for: the same row must have the same bits in every call.
int splits_of(const PlanShape& shape, const DeviceInfo& device) {
  const std::int64_t queries = std::max<std::int64_t>(shape.all_queries, 1) * std::max(shape.heads_per_key_head, 1);
  const std::int64_t tiles = (queries + kTileRows - 1) / kTileRows;
  const std::int64_t wanted = std::max(device.multiprocessors, 1) / std::max<std::int64_t>(tiles, 1);
  return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, std::clamp<std::int64_t>(shape.keys / 1024, 1, 64)));
}

}  // namespace

void plan_cuda(const PlanShape& shape, const PlanOptions& options, const DeviceInfo& device, Plan& plan) {
  CudaPlan& cuda = plan.cuda;
  const bool matrix = shape.head_dim == 0, materialised = plan.backend == "cuda_materialised";
  plan.threads = 0;
  if (options.device >= 0) {
    cuda.devices = {options.device};
  } else if (shape.memory_device >= 0) {
    cuda.devices = {shape.memory_device};
  } else {
    cuda.devices = device.devices;
  }
  cuda.lanes = 2;
  plan.workspace_bytes = workspace_of(options, device);
  auto chunk_bytes = static_cast<std::int64_t>(plan.workspace_bytes) / cuda.lanes;

  const std::int64_t queries = std::max<std::int64_t>(shape.queries, 1), keys = std::max<std::int64_t>(shape.keys, 1);
  const bool selects = shape.selection.top_k > 0 || shape.selection.mass > 0;
  std::int64_t row_bytes = 0;
  if (matrix) {
    // The row itself when it must be uploaded, its bits, its edges.
    row_bytes = keys * static_cast<std::int64_t>(size_of(shape.dtype)) + keys / 8 +
                plan.row_edges_bound * (selects ? 12 : 8) + 128;
    plan.reason = "one read of the stored weights, exact comparison, bits compacted";
  } else {
    const bool is_double = shape.dtype == DType::kF64;
    // A little more than may be edges: rounding may put pairs above the cut that do not belong there.
    const double most = plan.candidate_threshold > 0 && !shape.given_logsumexp
                            ? std::floor(1.04 / plan.candidate_threshold) + 1
                            : static_cast<double>(keys);
    cuda.candidate_capacity =
        std::min(keys, static_cast<std::int64_t>(std::min(most, static_cast<double>(keys))) + kSlackCandidates);
    cuda.splits = materialised || is_double ? 1 : splits_of(shape, device);
    cuda.two_passes = !materialised && plan.candidate_threshold > 0 && plan.candidate_threshold <= 0.001;
    row_bytes = cuda.splits * (40 + cuda.candidate_capacity * (selects ? 16 : 8)) + 128;
    row_bytes += padded(shape.head_dim) * (is_double ? 0 : 4);
    row_bytes += std::min(plan.row_edges_bound, cuda.candidate_capacity) * (selects ? 16 : 8);
    if (shape.host_mask) row_bytes += keys * 4;
    if (materialised && !is_double) {
      row_bytes += keys * 5 + cuda.candidate_capacity * 8;
      chunk_bytes -= chunk_bytes / 8;  // cuBLAS's own scratch, at most
    }
    plan.reason = is_double                      ? "double precision, candidates by the final cut"
                  : materialised                 ? "cuBLAS scores, softmax, candidates as bits, compaction"
                  : cuda.two_passes              ? "two passes: statistics, then candidates by the final cut"
                  : plan.candidate_threshold > 0 ? "one pass, candidates above an online threshold"
                                                 : "one pass, every allowed pair is a candidate";
  }

  const std::int64_t rows = std::clamp<std::int64_t>(chunk_bytes / row_bytes, 1, kMaxRows);
  cuda.heads_per_chunk =
      static_cast<int>(std::clamp<std::int64_t>(rows / queries, 1, std::max(matrix ? 1 : shape.heads_per_key_head, 1)));
  if (rows >= queries) {
    cuda.queries_per_chunk = queries;
  } else {
    cuda.queries_per_chunk = rows >= kTileRows ? rows / kTileRows * kTileRows : rows;
  }
}

}  // namespace ag
