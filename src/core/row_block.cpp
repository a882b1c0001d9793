// SPDX-License-Identifier: Apache-2.0
#include "row_block.hpp"

#include <algorithm>

namespace ag {

void RunReport::add(const RunReport& other) {
  eps = std::max(eps, other.eps);
  borderline += other.borderline;
  empty_rows += other.empty_rows;
  rows_fp64 += other.rows_fp64;
  skipped_nonfinite += other.skipped_nonfinite;
  kept_mass_sum += other.kept_mass_sum;
  rows_with_keys += other.rows_with_keys;
  if (!other.backend.empty()) backend = other.backend;
  if (!other.target.empty()) target = other.target;
  threads = std::max(threads, other.threads);
}

}  // namespace ag
