// SPDX-License-Identifier: Apache-2.0
// The part of a plan that only CUDA backends have: how rows are cut into batches that fit the workspace.
#include "cuda_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../core/numbers.hpp"
#include "cuda_rooms.hpp"

namespace ag {
namespace {

constexpr std::int64_t kMaxRows = std::int64_t{1} << 24;  // of a batch
// Rows that keep a device busy: fewer in a batch, because their room is too large, and they are counted first.
constexpr std::int64_t kRowsPerMultiprocessor = 512;
// Inputs in host memory: while one batch computes, the next is on its way, and the last one's edges are.
constexpr std::int64_t kBatchesFromHost = 4, kRowsFromHost = std::int64_t{1} << 15;

std::int64_t ceil_div(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

// An eighth of the device: inputs and the answers of others need their place too.
std::size_t workspace_of(const PlanOptions& options, const DeviceInfo& device) {
  if (options.workspace_bytes > 0) return options.workspace_bytes;
  const std::size_t share = device.memory_bytes / 8;
  return std::clamp<std::size_t>(share, std::size_t{64} << 20, std::size_t{2} << 30);
}

// More blocks than multiprocessors by splitting the keys, when all queries of all heads are few. Never from the rows
// and heads that one call asks for: the same row must have the same bits in every call.
int splits_of(const PlanShape& shape, const DeviceInfo& device) {
  const std::int64_t queries = std::max<std::int64_t>(shape.all_queries, 1) * std::max(shape.heads_per_key_head, 1);
  const std::int64_t tiles = ceil_div(queries, device.fused_rows) * std::max<std::int64_t>(shape.all_key_heads, 1);
  const std::int64_t wanted = 2 * std::max(device.multiprocessors, 1) / std::max<std::int64_t>(tiles, 1);
  return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, std::clamp<std::int64_t>(shape.keys / 256, 1, 64)));
}

// Whether cuda_streaming works by wgmma: on devices that have it, for operands of one or two panels of 64 columns, and
// scores that need nothing but products, causal masks, windows and lengths. Its blocks do not share a row's keys, so
// that a few rows of very many keys are left to mma.sync: one of its blocks does the work of some eight others. As
// with splits, never from the rows that one call asks for.
bool takes_wgmma(const PlanShape& shape, const DeviceInfo& device) {
  if (device.compute_capability != 90 || !device.has_wgmma) return false;
  if (!shape.plain_products || shape.selection.top_k > 0) return false;
  const bool fits = shape.dtype == DType::kF32                                  ? shape.head_dim <= 64
                    : shape.dtype == DType::kF16 || shape.dtype == DType::kBF16 ? shape.head_dim <= 128
                                                                                : false;
  if (!fits) return false;
  const std::int64_t queries = std::max<std::int64_t>(shape.all_queries, 1) * std::max(shape.heads_per_key_head, 1);
  const std::int64_t blocks = ceil_div(queries, kWgmmaRows) * std::max<std::int64_t>(shape.all_key_heads, 1);
  return shape.keys <= 8192 || 8 * blocks >= device.multiprocessors;
}

// Bytes of the workspace for every row of a batch, and for every chunk.
struct Bytes {
  std::int64_t row = 0, chunk = 0;
};

Bytes matrix_bytes(const PlanShape& shape, const Plan& plan, bool selects) {
  // The row itself when it must be uploaded, its bits, its edges.
  const std::int64_t keys = std::max<std::int64_t>(shape.keys, 1);
  return {keys * static_cast<std::int64_t>(size_of(shape.dtype)) + keys / 8 +
              plan.row_edges_bound * (selects ? 12 : 8) + 128,
          0};
}

Bytes extract_bytes(const PlanShape& shape, const Plan& plan, bool selects) {
  const CudaPlan& cuda = plan.cuda;
  const std::int64_t keys = std::max<std::int64_t>(shape.keys, 1);
  const auto element = static_cast<std::int64_t>(size_of(shape.dtype));
  const std::int64_t operand =
      plan.kernel == Kernel::kRowsF64 ? 0 : round_up(shape.head_dim, 16) * (shape.dtype == DType::kF32 ? 4 : 2);
  const std::int64_t from_host = shape.memory_device < 0 ? shape.head_dim * element : 0;
  Bytes bytes;
  bytes.row = cuda.splits * (shape.stats.entropy ? 28 : 20) + 100 + operand + from_host;
  // Rows whose candidates are counted first rarely have many; when they do, the batch takes more than is planned here.
  const std::int64_t top_k = shape.selection.top_k > 0 ? 4 * std::min(shape.selection.top_k, keys) : 0;
  const std::int64_t room =
      cuda.counts_first ? std::min(keys, std::max<std::int64_t>(256, top_k)) : cuda.candidate_capacity;
  bytes.row += room * (selects ? 16 : 8) + std::min(plan.row_edges_bound, room) * 8;
  if (cuda.bounds_top_k && plan.kernel == Kernel::kMmaSync) {
    bytes.row += 4 * key_groups(shape.keys, shape.selection.top_k, cuda.splits).count;
  }
  if (shape.host_mask) bytes.row += keys * 4;
  if (plan.kernel == Kernel::kCublas) bytes.row += round_up(keys, 32) * 4 + keys / 8;
  bytes.chunk = keys * (operand + from_host + 9) + 1024;
  return bytes;
}

// Heads, queries and chunks, so that a batch fits `budget` bytes.
void cut(const PlanShape& shape, const DeviceInfo& device, const Bytes& bytes, std::int64_t budget, bool matrix,
         CudaPlan& cuda) {
  const std::int64_t queries = std::max<std::int64_t>(shape.queries, 1);
  const std::int64_t for_rows = std::max<std::int64_t>(budget - bytes.chunk, budget / 2);
  const std::int64_t rows = std::clamp<std::int64_t>(for_rows / bytes.row, 1, kMaxRows);
  cuda.heads_per_chunk =
      static_cast<int>(std::clamp<std::int64_t>(rows / queries, 1, std::max(matrix ? 1 : shape.heads_per_key_head, 1)));
  const std::int64_t tile = device.fused_rows;
  cuda.queries_per_chunk = rows >= queries ? queries : rows >= tile ? rows / tile * tile : rows;
  const std::int64_t chunk_rows = cuda.heads_per_chunk * cuda.queries_per_chunk;
  const std::int64_t heads = std::max<std::int64_t>(shape.batch * shape.query_heads, 1);
  const std::int64_t chunks =
      cuda.queries_per_chunk < queries
          ? heads * ceil_div(queries, cuda.queries_per_chunk)
          : shape.batch * shape.key_heads * ceil_div(std::max(shape.heads_per_key_head, 1), cuda.heads_per_chunk);
  if (matrix) {
    cuda.batches = heads * ceil_div(queries, cuda.queries_per_chunk);
    return;
  }
  // A head that is cut is a batch for each piece: its chunks would share nothing.
  if (cuda.queries_per_chunk == queries) {
    cuda.chunks_per_batch =
        std::clamp<std::int64_t>(std::min(budget / (chunk_rows * bytes.row + bytes.chunk), kMaxRows / chunk_rows), 1,
                                 std::max<std::int64_t>(chunks, 1));
    if (shape.memory_device < 0) {
      const std::int64_t least = ceil_div(kRowsFromHost, chunk_rows);
      cuda.chunks_per_batch = std::min(cuda.chunks_per_batch,
                                       std::max(ceil_div(std::max<std::int64_t>(chunks, 1), kBatchesFromHost), least));
    }
  }
  cuda.batches = ceil_div(chunks, cuda.chunks_per_batch);
  const std::int64_t blocks_of_chunk = ceil_div(chunk_rows, device.fused_rows) * cuda.splits;
  cuda.blocks = std::min(cuda.chunks_per_batch, std::max<std::int64_t>(chunks, 1)) * blocks_of_chunk;
}

}  // namespace

void plan_cuda(const PlanShape& shape, const PlanOptions& options, const DeviceInfo& device, Plan& plan) {
  CudaPlan& cuda = plan.cuda;
  const bool matrix = shape.head_dim == 0, materialised = variant_of(plan.backend) == BackendVariant::kMaterialised;
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
  auto budget = static_cast<std::int64_t>(plan.workspace_bytes) / cuda.lanes;
  const bool selects = shape.selection.top_k > 0 || shape.selection.mass > 0;
  if (matrix) {
    plan.kernel = Kernel::kMatrixRows;
    plan.reason = "one read of the stored weights, exact comparison, bits compacted";
    cut(shape, device, matrix_bytes(shape, plan, selects), budget, true, cuda);
    return;
  }

  const bool is_double = shape.dtype == DType::kF64 || (!materialised && shape.head_dim > device.fused_head_dim);
  plan.kernel = is_double                    ? Kernel::kRowsF64
                : materialised               ? Kernel::kCublas
                : takes_wgmma(shape, device) ? Kernel::kWgmma
                                             : Kernel::kMmaSync;
  cuda.splits = plan.kernel == Kernel::kMmaSync ? splits_of(shape, device) : 1;
  if (plan.kernel == Kernel::kCublas) budget -= budget / 8;  // cuBLAS's own scratch, at most
  const double bounded = shape.given_logsumexp ? 0.0 : plan.candidate_threshold;
  cuda.candidate_capacity = candidate_room(bounded, shape.keys);
  const std::int64_t all_rows = std::max<std::int64_t>(1, shape.batch * shape.query_heads * shape.queries);
  const std::int64_t busy = std::min(all_rows, kRowsPerMultiprocessor * std::max(device.multiprocessors, 1));
  const bool unbounded = bounded == 0 && (selects || shape.given_logsumexp);
  cuda.counts_first = unbounded || budget / extract_bytes(shape, plan, selects).row < busy;
  // Every pair is kept: there is nothing to count.
  if (!selects && !shape.given_logsumexp && plan.candidate_threshold == 0) cuda.counts_first = false;
  cuda.bounds_top_k = cuda.counts_first && shape.selection.top_k > 0 && !is_double;
  cut(shape, device, extract_bytes(shape, plan, selects), budget, false, cuda);
  // Lengths, judgement; operands, the pass; double precision; decision, selection, scan (3), copy.
  cuda.launches = (is_double ? 2 : materialised ? 5 : 6) + 6 + (selects ? 1 : 0);
  if (cuda.counts_first) cuda.launches += 5;
  plan.reason = is_double             ? "double precision, candidates by the final cut"
                : materialised        ? "cuBLAS scores, softmax, candidates as bits, compaction"
                : shape.stats.entropy ? "two passes: logsumexp and entropy, then products again against the final cut"
                                      : "two passes: logsumexp, then products again against the final cut";
  if (cuda.counts_first) plan.reason += "; candidates are counted first";
}

}  // namespace ag
