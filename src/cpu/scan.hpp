// SPDX-License-Identifier: Apache-2.0
// A look at the input before the work: is it finite, and can single precision hold its scores?
#pragma once

#include <cstdint>
#include <vector>

#include "../core/ordered_tasks.hpp"
#include "job.hpp"

namespace ag::cpu {

// What is known of one group after a scan of its keys and queries.
struct HeadFacts {
  std::int64_t key_count = 0;          // keys that exist
  double key_norm = 0;                 // largest
  bool in_double = false;              // float cannot hold the band: this group is computed in double
  Product product = Product::kFloat;   // of this group: pairs, unless their sums could overflow
  std::vector<std::int64_t> bad_keys;  // not finite, to be masked; ascending
};

// Scans the keys of the group and the lengths of its queries. Throws kNonfinite (by request) and kRange.
HeadFacts scan_group(const Job& job, const Group& group, const Poll& poll);

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
