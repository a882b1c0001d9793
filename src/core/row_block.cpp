// SPDX-License-Identifier: Apache-2.0
#include "row_block.hpp"

#include <algorithm>

namespace ag {

SliceSums empty_sums(const Request& request, std::int64_t key_count) {
  SliceSums sums;
  const std::int64_t query_count = request.query_end - request.query_begin;
  if (request.stats.columns) sums.received.assign(static_cast<std::size_t>(key_count), 0.0);
  if (request.stats.distances && query_count > 0 && key_count > 0) {
    sums.distance_begin = request.query_begin + request.mask.query_offset - (key_count - 1);
    sums.distances.assign(static_cast<std::size_t>(query_count + key_count - 1), 0.0);
  }
  return sums;
}

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
  if (!other.note.empty()) note = other.note;
  threads = std::max(threads, other.threads);
}

void RunReport::add_rows(const RowStats* stats, std::int64_t count) {
  for (std::int64_t r = 0; r < count; ++r) {
    if (stats[r].max_key < 0) {
      ++empty_rows;
    } else {
      ++rows_with_keys;
      kept_mass_sum += stats[r].kept_mass;
    }
  }
}

}  // namespace ag
