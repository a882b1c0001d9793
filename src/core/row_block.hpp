// SPDX-License-Identifier: Apache-2.0
// Finished rows on their way from a backend to a sink, always in the order (slice, query).
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "dtype.hpp"
#include "problem.hpp"
#include "row_stats.hpp"

namespace ag {

struct SliceId {
  std::int64_t batch = 0;
  std::int64_t layer = 0;
  std::int64_t head = 0;
  auto operator<=>(const SliceId&) const = default;
};

struct SliceInfo {
  SliceId id;
  std::int64_t query_begin = 0;
  std::int64_t query_count = 0;
  std::int64_t key_count = 0;  // Nk: keys are in [0, key_count)
  bool operator==(const SliceInfo&) const = default;
};

// Borrowed arrays, valid during RowSink::rows only. offsets[0] == 0; keys ascend within a row.
struct RowBlock {
  std::int64_t query_begin = 0;
  std::int64_t row_count = 0;
  const std::int64_t* offsets = nullptr;  // [row_count + 1]
  const std::int32_t* keys = nullptr;     // [offsets[row_count]]
  const void* weights = nullptr;          // [offsets[row_count]] of weight_dtype
  DType weight_dtype = DType::kF32;       // kF32 or kF64, the same for a whole slice
  RowStatsView stats;                     // [row_count]

  std::int64_t edge_count() const { return offsets[row_count]; }
  double weight(std::int64_t e) const {
    return weight_dtype == DType::kF64 ? static_cast<const double*>(weights)[e] : static_cast<const float*>(weights)[e];
  }
};

// Attention on keys that the tokens single out, in the order of SliceSums::tokens.
enum class TokenRelation { kInduction, kDuplicate, kSameWord };
inline constexpr std::size_t kTokenRelations = 3;

// Sums over a slice's queries, on request; empty vectors otherwise.
struct SliceSums {
  std::vector<double> received;   // [key_count]
  std::vector<double> distances;  // mass at distance distance_begin + d
  std::int64_t distance_begin = 0;
  std::vector<double> tokens;  // [kTokenRelations]; NaN for words that are not known
};

// Sums of zeros as a request asks for them; none of distances when there is no pair.
SliceSums empty_sums(const Request& request, std::int64_t key_count);

class RowSink {
 public:
  virtual ~RowSink() = default;
  virtual void begin_slice(const SliceInfo& slice, DType weight_dtype) = 0;
  virtual void rows(const RowBlock& block) = 0;  // consecutive blocks cover the slice's queries exactly once
  virtual void end_slice(const SliceSums& sums) = 0;
};

// How an answer was made. Reports of several calls add up.
struct RunReport {
  double eps = 0;               // NaN: unknown, because the edges were not found by this library
  std::int64_t borderline = 0;  // -1: unknown
  std::int64_t empty_rows = 0;
  std::int64_t rows_fp64 = 0;
  std::int64_t skipped_nonfinite = 0;
  std::int64_t rows_decided_again = 0;  // of certified decisions
  std::int64_t unresolved = 0;          // pairs that no arithmetic could tell
  double kept_mass_sum = 0;             // over rows that have keys
  std::int64_t rows_with_keys = 0;
  std::string backend;  // all that answered, "cpu, cuda_streaming"
  std::string target;
  std::string note;  // why another backend than the best answered; usually empty
  int threads = 0;

  void add(const RunReport& other);
  // How edges were decided is no longer known.
  void forget_decisions();
  // Count finished rows, in order: empty_rows, rows_with_keys, kept_mass_sum.
  void add_rows(const RowStatsView& stats, std::int64_t count);
};

}  // namespace ag
