// SPDX-License-Identifier: Apache-2.0
#include "plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "../core/numbers.hpp"
#include "../core/select.hpp"
#include "cuda_plan.hpp"
#include "product.hpp"
#include "threads.hpp"

namespace ag {
namespace {

PlanShape shape_of_request(const Request& request) {
  PlanShape shape;
  shape.query_heads = static_cast<std::int64_t>(request.heads.size());
  shape.queries = request.query_end - request.query_begin;
  shape.causal = request.mask.causal;
  shape.window = request.mask.window;
  shape.selection = request.selection;
  shape.stats = request.stats;
  shape.host_mask = request.mask.tensor && request.mask.tensor.device < 0;
  shape.memory_device = request.mask.tensor.device;
  return shape;
}

void place(PlanShape& shape, const TensorView& view) {
  shape.memory_device = std::max(shape.memory_device, view.device);
}

constexpr double kMiB = 1 << 20;
// Of a thread. Scores that are written and read again cost less than scores made again, most of all in a cache.
constexpr std::int64_t kMostKeptScoreBytes = 4 << 20;

const char* name_of(Kernel kernel) {
  switch (kernel) {
    case Kernel::kMmaSync: return "row_sums and row_edges (mma.sync)";
    case Kernel::kWgmma: return "wgmma_statistics and wgmma_edges (wgmma)";
    case Kernel::kCublas: return "cuBLAS, softmax_rows";
    case Kernel::kRowsF64: return "rows_f64";
    case Kernel::kMatrixRows: return "matrix_rows";
    case Kernel::kPlain: break;
  }
  return "plain loops";
}

// Of one key, packed.
std::int64_t packed_row_bytes(Product product, const PlanShape& shape) {
  if (product == Product::kFloat) return shape.head_dim * (shape.dtype == DType::kF64 ? 8 : 4);
  const std::int64_t parts = shape.dtype == DType::kF32 ? 3 : shape.dtype == DType::kF16 ? 2 : 1;
  return parts * round_up(shape.head_dim, product == Product::kAmx ? 32 : 2) * 2;
}

}  // namespace

PlanShape shape_of(const Problem& problem) {
  PlanShape shape = shape_of_request(problem);
  shape.batch = problem.batch();
  shape.key_heads = problem.key_heads();
  shape.keys = problem.keys();
  shape.head_dim = problem.head_dim();
  shape.dtype = problem.q.dtype;
  shape.sinks = static_cast<bool>(problem.sinks);
  shape.given_logsumexp = static_cast<bool>(problem.logsumexp);
  shape.softcap = problem.softcap > 0;
  shape.alibi = !problem.alibi.empty();
  shape.plain_products = !problem.mask.tensor && !shape.softcap && !shape.alibi && problem.scale > 0;
  shape.all_queries = problem.queries();
  shape.all_key_heads = problem.batch() * problem.key_heads();
  shape.heads_per_key_head =
      static_cast<int>(problem.key_heads() > 0 ? problem.query_heads() / problem.key_heads() : 1);
  for (const TensorView* view : {&problem.q, &problem.k, &problem.sinks, &problem.logsumexp}) place(shape, *view);
  return shape;
}

PlanShape shape_of(const MatrixProblem& problem) {
  PlanShape shape = shape_of_request(problem);
  shape.batch = problem.batch();
  shape.key_heads = shape.query_heads;
  shape.keys = problem.keys();
  shape.dtype = problem.weights.dtype;
  shape.all_queries = problem.queries();
  place(shape, problem.weights);
  return shape;
}

BackendVariant variant_of(std::string_view backend) {
  if (backend == "cpu") return BackendVariant::kCpu;
  if (backend == "cuda_streaming") return BackendVariant::kStreaming;
  if (backend == "cuda_materialised") return BackendVariant::kMaterialised;
  return BackendVariant::kReference;
}

const char* name_of(Product product) {
  return product == Product::kAmx ? "AMX" : product == Product::kAvx512Bf16 ? "AVX512_BF16" : "";
}

Plan make_plan(const PlanShape& shape, const PlanOptions& options, const DeviceInfo& device) {
  Plan plan;
  plan.backend = options.backend;
  plan.target = device.target;
  ThreadChoice threads = choose_threads(shape, options.threads, device.threads);
  plan.threads = threads.threads;
  if (variant_of(options.backend) == BackendVariant::kCpu) {
    plan.threads_reason = std::move(threads.reason);
    if (options.pair_products && shape.head_dim > 0) {
      ProductChoice choice = choose_product(shape.dtype, shape.head_dim, device);
      plan.product = choice.product;
      plan.product_reason = std::move(choice.reason);
      if (plan.product != Product::kFloat) plan.target = name_of(plan.product);
    }
  }

  const Selection& selection = shape.selection;
  // The bound that mass gives holds for weights that sum to 1; otherwise the mass may never be reached, and then every
  // key counts.
  const bool sums_to_one = shape.head_dim > 0 && !shape.sinks && !shape.given_logsumexp;
  plan.candidate_threshold = selection.threshold > 0             ? selection.threshold
                             : selection.mass > 0 && sums_to_one ? mass_cut(selection.mass, shape.keys)
                                                                 : 0.0;
  plan.row_edges_bound = shape.keys;
  const bool at_most_one = shape.head_dim > 0 && !shape.given_logsumexp;
  if (plan.candidate_threshold > 0 && at_most_one) {
    // The quotient may be far beyond any integer for a subnormal threshold.
    plan.row_edges_bound = static_cast<std::int64_t>(
        std::min(std::floor(1.0 / plan.candidate_threshold), static_cast<double>(shape.keys)));
  }
  if (selection.top_k > 0) plan.row_edges_bound = std::min(plan.row_edges_bound, selection.top_k);

  if (device.kind == "cuda") {
    plan_cuda(shape, options, device, plan);
    return plan;
  }

  if (variant_of(plan.backend) == BackendVariant::kReference) {
    plan.threads = 1;
    plan.rows_per_task = 1;
    // A key head in double, and what is known of a row's keys.
    plan.workspace_bytes = static_cast<std::size_t>(shape.keys * (8 * shape.head_dim + 48));
    plan.reason = shape.head_dim == 0 ? "plain loops over the stored weights" : "plain loops, double sums";
    return plan;
  }

  const bool is_double = shape.dtype == DType::kF64;
  const std::int64_t working_bytes = is_double ? 8 : 4;
  const std::int64_t rows_per_block = plan.product == Product::kAmx ? 32 : device.vector_registers >= 32 ? 12 : 6;
  const std::int64_t strip_keys = 2048 / working_bytes;  // of one score strip, held in L1

  // Candidates of a task's rows: what may survive, and one strip on top. Bounded, or a row without a cut would fill
  // memory.
  // What mass needs is far from its bound (docs/benchmarks.md), so its rows may hope for more.
  const bool by_mass = selection.mass > 0 && selection.threshold == 0 && selection.top_k == 0;
  const std::int64_t candidate_bytes = by_mass ? 48 << 20 : 16 << 20;
  const std::int64_t row_bytes = 2 * working_bytes * (2 * std::max<std::int64_t>(plan.row_edges_bound, 1) + strip_keys);
  // 192 rows make a strip of keys worth fetching into L2; fewer when there would not be enough tasks to share out. Sums
  // over queries are added task by task, so then tasks must be the same for any number of threads and heads; and down
  // to half as many rows, a task keeps all of its scores.
  std::int64_t rows = std::min<std::int64_t>(192, candidate_bytes / row_bytes);
  const std::int64_t all_rows = std::max<std::int64_t>(1, shape.batch * shape.query_heads * shape.queries);
  const std::int64_t score_bytes = round_up(shape.keys, strip_keys) * working_bytes;
  const bool two_passes = shape.stats.columns || shape.stats.distances;
  if (two_passes) {
    rows = std::min(rows, std::max<std::int64_t>(96, kMostKeptScoreBytes / std::max<std::int64_t>(score_bytes, 1)));
  } else {
    rows = std::min(rows, all_rows / (8 * plan.threads));
  }
  plan.rows_per_task = std::max<std::int64_t>(1, rows / rows_per_block) * rows_per_block;

  if (shape.head_dim == 0) {
    plan.workspace_bytes =
        static_cast<std::size_t>(plan.threads) * static_cast<std::size_t>(2 * working_bytes * shape.keys);
    plan.reason = "one pass over the stored weights, exact comparison";
    return plan;
  }

  const std::int64_t packed_bytes = round_up(shape.keys, strip_keys) * packed_row_bytes(plan.product, shape);
  const std::int64_t task_bytes =
      plan.rows_per_task * (shape.head_dim * working_bytes + std::min(row_bytes, 64 * strip_keys)) +
      rows_per_block * strip_keys * working_bytes;
  if (two_passes) plan.kept_score_bytes = std::min(kMostKeptScoreBytes, plan.rows_per_task * score_bytes);
  std::int64_t pack_bytes = 0;
  if (packed_bytes <= 16 << 20) {
    plan.pack = PackKeys::kWholeHead;
    plan.key_places = key_places(shape, plan.threads, plan.rows_per_task,
                                 (std::int64_t{32} << 20) / std::max<std::int64_t>(packed_bytes, 1));
    pack_bytes = plan.key_places * packed_bytes;
  } else if (packed_bytes <= 80 << 20) {
    plan.pack = PackKeys::kOneHead;
    pack_bytes = packed_bytes;
  } else {
    plan.pack = PackKeys::kPerTask;
    plan.key_places = key_places(shape, plan.threads, plan.rows_per_task, 2);  // of what is known of them
    pack_bytes = plan.threads * strip_keys * packed_row_bytes(plan.product, shape);
  }
  plan.workspace_bytes = static_cast<std::size_t>(pack_bytes + plan.threads * (task_bytes + plan.kept_score_bytes));
  plan.reason = plan.candidate_threshold > 0 ? "one pass, candidates above an online threshold"
                : selection.top_k > 0        ? "one pass, candidates above the k-th best so far"
                                             : "one pass, every allowed pair is kept";
  return plan;
}

std::string describe(const Plan& plan, const PlanShape& shape) {
  std::string text;
  const auto line = [&text](const char* name, const std::string& value) {
    text += fmt::format("{:<20}{}\n", name, value);
  };
  line("backend", plan.target.empty() || variant_of(plan.backend) == BackendVariant::kReference
                      ? plan.backend
                      : fmt::format("{} ({})", plan.backend, plan.target));
  if (!plan.product_reason.empty()) line("product path", plan.product_reason);
  const CudaPlan& cuda = plan.cuda;
  if (cuda.devices.empty()) {
    line("threads", plan.threads_reason.empty() ? fmt::format("{}", plan.threads)
                                                : fmt::format("{} {}", plan.threads, plan.threads_reason));
  } else {
    line("devices", fmt::format("{} ({} batches in flight on each)", fmt::join(cuda.devices, ", "), cuda.lanes));
    line("kernel", name_of(plan.kernel));
  }
  if (shape.head_dim > 0) {
    line("shape", fmt::format("B {} Hq {} Hkv {} Nq {} Nk {} D {} {}", shape.batch, shape.query_heads, shape.key_heads,
                              shape.queries, shape.keys, shape.head_dim, name_of(shape.dtype)));
  } else {
    line("shape", fmt::format("B {} H {} Nq {} Nk {} {}", shape.batch, shape.query_heads, shape.queries, shape.keys,
                              name_of(shape.dtype)));
  }
  line("mask", fmt::format("{}{}", shape.causal ? "causal" : "not causal",
                           shape.window > 0 ? fmt::format(", window {}", shape.window) : std::string()));
  if (shape.softcap || shape.alibi) {
    line("scores",
         fmt::format("q . k{}{}", shape.softcap ? ", softcap" : "", shape.alibi ? ", less by distance (ALiBi)" : ""));
  }
  line("method", plan.reason);
  if (plan.candidate_threshold > 0) line("candidates", fmt::format("weight >= {:g}", plan.candidate_threshold));
  line("edges per row", fmt::format("at most {}", plan.row_edges_bound));
  if (shape.head_dim > 0 && variant_of(plan.backend) == BackendVariant::kCpu) {
    const std::string pack = plan.pack == PackKeys::kPerTask ? "strip by strip in every task"
                             : plan.key_places == 1          ? "one head at a time"
                                                    : fmt::format("whole heads, {} at a time", plan.key_places);
    line("tasks", fmt::format("{} rows", plan.rows_per_task));
    line("keys packed", pack);
  }
  if (!cuda.devices.empty()) {
    line("chunks", fmt::format("{} heads x {} queries{}", cuda.heads_per_chunk, cuda.queries_per_chunk,
                               cuda.splits > 1 ? fmt::format(", keys split in {}", cuda.splits) : std::string()));
    if (shape.head_dim > 0) {
      line("batches", fmt::format("{} of at most {} chunks, {} launches each", cuda.batches, cuda.chunks_per_batch,
                                  cuda.launches));
      if (cuda.blocks > 0) line("blocks", fmt::format("{} in the first pass", cuda.blocks));
      line("row buffers", cuda.counts_first ? "as many candidates as are counted"
                                            : fmt::format("{} candidates", cuda.candidate_capacity));
    }
  }
  line("workspace", fmt::format("{:.1f} MiB", static_cast<double>(plan.workspace_bytes) / kMiB));
  return text;
}

}  // namespace ag
