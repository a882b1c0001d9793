// SPDX-License-Identifier: Apache-2.0
// The stages that both backends share: one launcher each, queued on the stream. Pointers named d_ are the device's.
// cudaErrorInvalidValue when arguments contradict what is said here; nothing to do is cudaSuccess without a launch.
#pragma once

#include <cuda_runtime_api.h>

#include <bit>
#include <cstddef>
#include <cstdint>

#include "band.hpp"
#include "row_storage.hpp"
#include "work.hpp"

namespace ag::cuda {

// The first fault in the order of the answer. Zeros mean none, so that cudaMemsetAsync clears it.
struct DeviceFault {
  unsigned long long inverse_place = 0;  // ~(row * keys + key): the largest is the first
  double value = 0;                      // what was found there

  bool found() const { return inverse_place != 0; }
  std::int64_t place() const { return static_cast<std::int64_t>(~inverse_place); }
};

// What finish_rows says of a batch as a whole.
struct FinishReport {
  unsigned long long eps_bits = 0;         // of eps(): the widest band of a row
  unsigned long long borderline = 0;       // candidates inside their row's band
  unsigned long long rows_fp64 = 0;        // of chunks that were done in double
  unsigned long long rows_overflowed = 0;  // rows with more candidates than room: a bug of the pass, the batch is void
  DeviceFault weight;                      // a weight that no float holds; value is its logarithm
  DeviceFault mask;                        // what inspect_mask found
  DeviceFault logsumexp;                   // NaN; its place is the row

  double eps() const { return std::bit_cast<double>(eps_bits); }
};

// Euclidean length of all queries and keys of the chunks, in double and without overflow, to Chunk::q_norms and
// k_norms; NaN for a row that holds NaN or infinity.
cudaError_t launch_inspect_rows(const Batch& batch, RowStorage storage, cudaStream_t stream);

// Chunk::logsumexp times unit to Chunk::given_logsumexp. Finds NaN.
cudaError_t launch_read_logsumexp(const Batch& batch, double unit, DeviceFault* d_fault, cudaStream_t stream);

// What judge_chunks goes by, apart from the lengths of rows.
struct JudgeRules {
  BandModel band, band_f64;  // of keys of length 1
  double scale = 1;
  double softcap = 0;          // 0: none
  bool always_double = false;  // f64, or a head size that no pass has
  bool splits_f32 = false;     // f32 operands come as two f16
  bool base2 = false;          // the pass makes scores base 2 before it compares them: natural_unit is ln 2
};

// Batch::facts, and flags of bad keys: d_bad_keys is [chunks][keys].
cudaError_t launch_judge_chunks(const Batch& batch, const JudgeRules& rules, std::uint8_t* d_bad_keys,
                                cudaStream_t stream);

// Finds NaN and +inf in an additive mask, at pairs of usable queries that the mask's other rules allow.
cudaError_t launch_inspect_mask(const Batch& batch, DeviceFault* d_fault, cudaStream_t stream);

// Queries and keys of the chunks that are not done in double, as Operands has them.
cudaError_t launch_prepare_operands(const Batch& batch, const Operands& operands, RowStorage storage,
                                    cudaStream_t stream);

// The score pass in double, for the chunks that are flagged for it: reads q and k as given, D up to 512. Fills states
// and candidates, by the final cut; with candidates.keys null it counts them.
cudaError_t launch_rows_f64(const Batch& batch, const RowStates& states, const Candidates& candidates,
                            cudaStream_t stream);

// Decides every candidate in double by core/edge_rule.hpp and finishes its row: replaces scores by weights, keys of
// pairs that are no edges by ~key; writes results (offsets excepted), the number of edges of each row, and the report,
// all of which it expects cleared; leaves states as work.hpp says. d_weights_f64 is laid out as
// candidates.scores, or null.
cudaError_t launch_finish_rows(const Batch& batch, const RowStates& states, const Candidates& candidates,
                               double* d_weights_f64, const RowResults& results, std::int64_t* d_edge_counts,
                               FinishReport* d_report, bool given_logsumexp, cudaStream_t stream);

// Of the edges that finish_rows has found, those that top_k (0: any number) and mass (0: any) leave, as ag::select_row
// has it; the keys of the others become ~key. d_weights is laid out as candidates.scores. Updates d_edge_counts and
// d_kept_mass.
cudaError_t launch_select_rows(std::int64_t rows, std::int64_t keys, const Candidates& candidates,
                               const double* d_weights, std::int64_t top_k, double mass, std::int64_t* d_edge_counts,
                               double* d_kept_mass, cudaStream_t stream);

// d_offsets[i] = the sum of the counts before i, for i in [0, n]. The two arrays may not overlap.
std::size_t exclusive_scan_scratch_bytes(std::int64_t n);
cudaError_t launch_exclusive_scan(const std::int64_t* d_counts, std::int64_t* d_offsets, std::int64_t n,
                                  void* d_scratch, cudaStream_t stream);
cudaError_t launch_exclusive_scan(const std::int32_t* d_counts, std::int64_t* d_offsets, std::int64_t n,
                                  void* d_scratch, cudaStream_t stream);

// Edges of all rows in the order (row, key), of rows that end within the first `room` edges: the arrays hold as many.
cudaError_t launch_copy_edges(std::int64_t rows, const Candidates& candidates, const std::int64_t* d_offsets,
                              std::int64_t room, std::int32_t* d_keys, float* d_weights, cudaStream_t stream);

// d_offsets[i] += base for i in [0, n].
cudaError_t launch_rebase_offsets(std::int64_t* d_offsets, std::int64_t n, std::int64_t base, cudaStream_t stream);

// Where launch_sums adds to, head after head of the batch; both are read. Null: not wanted.
struct DeviceSums {
  double* received = nullptr;       // [heads][keys]: of each key over the chunk's queries
  double* distances = nullptr;      // [heads][distance_count]: mass at query_offset + i - j = distance_begin + d
  std::int64_t distance_begin = 0;  // as in ag::empty_sums
  std::int64_t distance_count = 0;
};

// Sums of the weights of all allowed pairs, edges or not. `states` are those that finish_rows has left. Dot products in
// float, except of chunks that are done in double. Without atomics: the same bits every time.
cudaError_t launch_sums(const Batch& batch, const RowStates& states, const DeviceSums& sums, cudaStream_t stream);

}  // namespace ag::cuda
