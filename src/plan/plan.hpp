// SPDX-License-Identifier: Apache-2.0
// How a problem will be done, as plain numbers. Made by a pure function of shapes, options and a description of the
// device: it allocates nothing and asks no hardware, so every decision can be tested anywhere and quoted in a bug
// report.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../core/dtype.hpp"
#include "../core/problem.hpp"

namespace ag {

// How the cpu backend multiplies queries and keys: single values in float, or pairs of bf16 values that are summed in
// float (docs/numerics.md: the products are exact).
enum class Product { kFloat, kAvx512Bf16, kAmx };

// Plain numbers about what will run the plan; a backend describes itself, tests invent others.
struct DeviceInfo {
  std::string kind = "cpu";       // "cpu", "cuda"
  std::string target = "scalar";  // instruction set or device name
  int threads = 1;                // that this process may run at once
  int vector_registers = 16;
  Product product = Product::kFloat;  // cpu: the most that works here
  bool product_is_forced = false;     // somebody named it: no choice
  // Scores a second of all threads by each Product, for the type and head size at hand; empty: not measured
  std::vector<double> product_rates;
  std::size_t l1_bytes = 32 << 10;
  std::size_t l2_bytes = 1 << 20;  // per core; cuda: of the device
  // cuda: of the first device; others are taken to be like it
  std::vector<int> devices;  // ordinals of those that the plugin can use
  int multiprocessors = 0;
  int compute_capability = 0;         // 10 * major + minor
  bool has_wgmma = false;             // the plugin is built for sm_90a
  std::size_t memory_bytes = 0;       // of each
  std::int64_t fused_rows = 128;      // rows of a block of the fused kernels
  std::int64_t fused_head_dim = 256;  // the largest that they take
  bool has_context = true;            // somebody in this process has made the driver's context
  bool has_started = true;            // this library has worked there: its code is loaded
  std::string facts;                  // for people: driver, libraries, architectures
};

struct PlanOptions {
  std::string backend;              // already resolved to a name
  int threads = 0;                  // 0: as many as the work is worth, at most all of the device
  bool pair_products = true;        // cpu: false: in float, whatever the device offers
  int device = -1;                  // cuda: the one to use; -1: those that there are, or that of the input
  std::size_t workspace_bytes = 0;  // cuda: 0: a share of the device's memory
};

// The shape of a problem, without its data.
struct PlanShape {
  std::int64_t batch = 1, query_heads = 1, key_heads = 1, queries = 0, keys = 0,
               head_dim = 0;  // head_dim 0: a ready matrix
  DType dtype = DType::kF32;
  bool causal = false;
  std::int64_t window = 0;
  Selection selection;
  StatsRequest stats;
  bool sinks = false;            // weights of the keys sum to less than 1
  bool given_logsumexp = false;  // weights of the keys may sum to anything
  // For CUDA, where the queries of a call are a part of all: splits must not depend on which part it is.
  std::int64_t all_queries = 0;
  std::int64_t all_key_heads = 1;  // of all batches
  int heads_per_key_head = 1;
  int memory_device = -1;  // the CUDA device whose memory holds an input; -1: all are in host memory
  bool host_mask = false;  // a mask tensor that has to be uploaded
  bool softcap = false;
  bool alibi = false;  // slopes of distance
  // Scores are products times a factor above 0: no mask tensor, no softcap, no slopes.
  bool plain_products = false;
};

PlanShape shape_of(const Problem& problem);
PlanShape shape_of(const MatrixProblem& problem);

enum class PackKeys {
  kWholeHead,  // every key head is packed once; the memory of two and more, so that one can be packed while others are
               // used, and small heads keep many threads busy
  kOneHead,    // packed once, one head at a time
  kPerTask,    // too large: each task packs the strip it works on
};

// What does the work: the plan names it, the backend runs it.
enum class Kernel {
  kPlain,       // reference, cpu: their own loops
  kMmaSync,     // cuda_streaming: fused, tensor cores by mma.sync
  kWgmma,       // cuda_streaming: the same passes by wgmma, on devices of compute capability 9.0
  kCublas,      // cuda_materialised: cuBLAS's scores, then our own kernels
  kRowsF64,     // both: double precision throughout
  kMatrixRows,  // both: ready matrices
};

// How a CUDA backend cuts the rows. A chunk is some query heads of one key head and a range of their queries; a batch
// is the chunks that one launch of every kernel does.
struct CudaPlan {
  std::vector<int> devices;            // that share the work
  int lanes = 1;                       // batches in flight on each device
  int heads_per_chunk = 1;             // query heads of one key head; more than one only with all their queries
  std::int64_t queries_per_chunk = 0;  // of each head; chunks begin at global multiples of it
  std::int64_t chunks_per_batch = 1;
  std::int64_t batches = 0;             // of the call
  int launches = 0;                     // of kernels, for a batch of threshold edges
  std::int64_t blocks = 0;              // of the first pass over a full batch
  std::int64_t candidate_capacity = 0;  // of a row
  // Candidates are counted before there is room for them: where no bound holds, or too few rows would fit.
  bool counts_first = false;
  bool bounds_top_k = false;  // a row's cut is raised to a bound of its top_k-th best score
  int splits = 1;             // of the keys
};

// Backends as the plan tells them apart: the one place where their names mean something.
enum class BackendVariant { kReference, kCpu, kStreaming, kMaterialised };
BackendVariant variant_of(std::string_view backend);

struct Plan {
  std::string backend;
  std::string target;
  int threads = 1;
  std::string threads_reason;  // cpu
  Kernel kernel = Kernel::kPlain;
  // cpu
  Product product = Product::kFloat;
  std::string product_reason;      // where there was a choice
  std::int64_t rows_per_task = 0;  // a multiple of the kernel's rows; strips stay in L2 while its blocks pass over them
  PackKeys pack = PackKeys::kWholeHead;
  int key_places = 1;  // key heads that are packed at a time
  // Scores that a thread keeps for a second pass over them, which sums over queries take.
  std::int64_t kept_score_bytes = 0;
  CudaPlan cuda;
  // all
  double candidate_threshold =
      0;  // weights below it need not be looked at: the threshold, or the bound that `mass` gives
  std::int64_t row_edges_bound = 0;  // provable bound on the edges of a row
  std::size_t workspace_bytes = 0;   // beside input and answer; all threads, or each CUDA device
  std::string reason;                // why this and not another, one line
};

// "AVX512_BF16" or "AMX"; "" for kFloat, which goes by the name of the instruction set.
const char* name_of(Product product);

Plan make_plan(const PlanShape& shape, const PlanOptions& options, const DeviceInfo& device);

// Several lines "name: value", for --explain.
std::string describe(const Plan& plan, const PlanShape& shape);

}  // namespace ag
