// SPDX-License-Identifier: Apache-2.0
// A look at the input before the work: is it finite, how long are its rows, can its scores be computed?
#pragma once

#include <cstdint>
#include <vector>

#include "../core/ordered_tasks.hpp"
#include "job.hpp"

namespace ag::cpu {

// What is known of the keys of one (batch, key head), the first key_count of them.
struct KeyFacts {
  struct LongKey {
    std::int64_t key;
    double norm;
  };

  std::int64_t key_count = 0;
  std::vector<std::int64_t> bad_keys;  // not finite, to be masked; ascending
  std::vector<LongKey> longest;        // those longer than every key before them

  // The largest norm among the keys before `end`.
  double key_norm_before(std::int64_t end) const;
  double key_norm() const { return longest.empty() ? 0.0 : longest.back().norm; }
  // Forget the keys from `count` on.
  void truncate(std::int64_t count);
};

// Adds the keys up to `end`. Throws kNonfinite (by request).
void scan_keys(const TensorView& k, std::int64_t batch, std::int64_t key_head, std::int64_t end, Nonfinite nonfinite,
               const Poll& poll, KeyFacts& facts);

// Scans the keys of the group and the lengths of its queries. Throws kNonfinite (by request) and kRange.
KeyFacts scan_group(const Job& job, const Group& group, const Poll& poll);

// Throws kRange where scores of such queries and keys are beyond what can be computed.
void require_range(const Job& job, const Group& group, double query_norm, double key_norm);

// Length of row n of a [B, H, N, D] tensor; NaN when it holds NaN or infinity.
class RowNorm {
 public:
  double operator()(const TensorView& tensor, std::int64_t b, std::int64_t h, std::int64_t n);

 private:
  std::vector<double> row_f64_;
  std::vector<float> row_f32_;
};

// Throws kNonfinite with the place of the first bad value of that row.
[[noreturn]] void fail_nonfinite(const TensorView& tensor, const char* name, std::int64_t b, std::int64_t h,
                                 std::int64_t n);

}  // namespace ag::cpu
