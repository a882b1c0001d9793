// SPDX-License-Identifier: Apache-2.0
// The stages that both backends share: one launcher each, queued on the stream. Pointers named d_ are the device's.
// cudaErrorInvalidValue when arguments contradict what is said here; nothing to do is cudaSuccess without a launch.
#pragma once

#include <cuda_runtime_api.h>

#include <bit>
#include <cstddef>
#include <cstdint>

#include "band.hpp"
#include "work.hpp"

namespace ag::cuda {

// The first fault in the order of the answer. Zeros mean none, so that cudaMemsetAsync clears it.
struct DeviceFault {
  unsigned long long inverse_place = 0;  // ~(row * keys + key): the largest is the first
  double value = 0;                      // what was found there

  bool found() const { return inverse_place != 0; }
  std::int64_t place() const { return static_cast<std::int64_t>(~inverse_place); }
};

// What finish_rows says of a chunk as a whole.
struct FinishReport {
  unsigned long long eps_bits = 0;         // of eps(): the widest band of a row
  unsigned long long borderline = 0;       // candidates inside their row's band
  unsigned long long rows_too_wide = 0;    // rows whose additive mask needs double: the chunk is void, run rows_f64
  unsigned long long rows_overflowed = 0;  // rows with more candidates than room: a bug of the pass, the chunk is void
  DeviceFault weight;                      // a weight that no float holds; value is its logarithm

  double eps() const { return std::bit_cast<double>(eps_bits); }
};

// Euclidean length of rows [first_row, first_row + count) of each head, in double and without overflow; NaN for a row
// that holds NaN or infinity. d_norm is [heads][count]; d_head_ids may be null for one head whose stride is 0.
cudaError_t launch_inspect_rows(AnyTensor rows, const std::int64_t* d_head_ids, std::int64_t heads,
                                std::int64_t first_row, std::int64_t count, std::int64_t dim, double* d_norm,
                                cudaStream_t stream);

// Finds NaN and +inf in an additive mask, at pairs of usable queries that the mask's other rules allow. Clears the
// fault first.
cudaError_t launch_inspect_mask(const Chunk& chunk, const RowFacts& facts, DeviceFault* d_fault, cudaStream_t stream);

// Rows as Operands has them, [heads][count][pitch] or, for f32, [heads][count][2][pitch]. dtype is the problem's;
// `exponent` is of f32 only, the largest that keeps every value times 2^exponent below 2^10.
cudaError_t launch_prepare_operands(AnyTensor rows, const std::int64_t* d_head_ids, std::int64_t heads,
                                    std::int64_t first_row, std::int64_t count, std::int64_t dim, std::int32_t dtype,
                                    std::int64_t pitch, std::int32_t exponent, void* d_out, cudaStream_t stream);

// The same rows as f32 values, [heads][count][pitch], from f32, f16 or bf16.
cudaError_t launch_prepare_f32(AnyTensor rows, const std::int64_t* d_head_ids, std::int64_t heads,
                               std::int64_t first_row, std::int64_t count, std::int64_t dim, std::int64_t pitch,
                               float* d_out, cudaStream_t stream);

// Of each row's norm its band, and whether it is unusable (its norm is NaN). d_unusable may be null.
cudaError_t launch_row_bands(const double* d_q_norm, std::int64_t rows, BandModel model, float* d_band,
                             std::uint8_t* d_unusable, cudaStream_t stream);

// The score pass in double, for f64 and for heads whose scores float cannot hold: reads q and k as given, D up to 512.
// Fills one split of states and fixed rows of candidates, by the final cut. When a row has more candidates than
// capacity, its count says how many, and finish_rows reports it.
cudaError_t launch_rows_f64(const Chunk& chunk, const RowFacts& facts, const PassOptions& options,
                            const RowStates& states, const Candidates& candidates, cudaStream_t stream);

// Decides every candidate in double by core/edge_rule.hpp and finishes its row: replaces scores by weights, keys of
// pairs that are no edges by ~key; writes results (offsets excepted), the number of edges of each row, and the report,
// which it clears first; leaves the merged states in split 0 (work.hpp). d_weights_f64 is laid out as
// candidates.scores, or null.
cudaError_t launch_finish_rows(const Chunk& chunk, const RowFacts& facts, const BandModel& model,
                               const RowStates& states, const Candidates& candidates, double* d_weights_f64,
                               const RowResults& results, std::int64_t* d_edge_counts, FinishReport* d_report,
                               cudaStream_t stream);

// d_offsets[i] = the sum of the counts before i, for i in [0, n]. The two arrays may not overlap.
std::size_t exclusive_scan_scratch_bytes(std::int64_t n);
cudaError_t launch_exclusive_scan(const std::int64_t* d_counts, std::int64_t* d_offsets, std::int64_t n,
                                  void* d_scratch, cudaStream_t stream);

// Edges of all rows in the order (row, key). d_out_weights_f64 goes with d_weights_f64; both or neither are null.
cudaError_t launch_copy_edges(const Chunk& chunk, const RowStates& states, const Candidates& candidates,
                              const double* d_weights_f64, const std::int64_t* d_offsets, std::int32_t* d_keys,
                              float* d_weights, double* d_out_weights_f64, cudaStream_t stream);

// Where launch_sums adds to; both are read, so that chunks of a head add up. Null: not wanted.
struct DeviceSums {
  double* received = nullptr;       // [heads][keys]: of each key over the chunk's queries
  double* distances = nullptr;      // [heads][distance_count]: mass at query_offset + i - j = distance_begin + d
  std::int64_t distance_begin = 0;  // as in ag::empty_sums
  std::int64_t distance_count = 0;
};

// Sums of the weights of all allowed pairs, edges or not. `states` are those that finish_rows has left. Dot products in
// float when `in_double` is false, which is for f32, f16 and bf16. Without atomics: the same bits every time.
cudaError_t launch_sums(const Chunk& chunk, const RowStates& states, const DeviceSums& sums, bool in_double,
                        cudaStream_t stream);

}  // namespace ag::cuda
