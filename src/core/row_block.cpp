// SPDX-License-Identifier: Apache-2.0
#include "row_block.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace ag {
namespace {

// Names of `more` that are not in `list` yet.
void join(std::string& list, std::string_view more, std::string_view separator) {
  while (!more.empty()) {
    const std::size_t end = std::min(more.find(separator), more.size());
    const std::string_view name = more.substr(0, end);
    more.remove_prefix(std::min(end + separator.size(), more.size()));
    bool known = false;
    for (std::string_view rest = list; !rest.empty() && !known;) {
      const std::size_t stop = std::min(rest.find(separator), rest.size());
      known = rest.substr(0, stop) == name;
      rest.remove_prefix(std::min(stop + separator.size(), rest.size()));
    }
    if (known) continue;
    if (!list.empty()) list += separator;
    list += name;
  }
}

}  // namespace

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
  if (std::isnan(other.eps) || other.borderline < 0 || borderline < 0) {
    forget_decisions();
  } else if (!std::isnan(eps)) {
    eps = std::max(eps, other.eps);
    borderline += other.borderline;
  }
  empty_rows += other.empty_rows;
  rows_fp64 += other.rows_fp64;
  skipped_nonfinite += other.skipped_nonfinite;
  rows_decided_again += other.rows_decided_again;
  unresolved += other.unresolved;
  kept_mass_sum += other.kept_mass_sum;
  rows_with_keys += other.rows_with_keys;
  join(backend, other.backend, ", ");
  join(target, other.target, "; ");
  join(note, other.note, "; ");
  threads = std::max(threads, other.threads);
}

void RunReport::forget_decisions() {
  eps = std::numeric_limits<double>::quiet_NaN();
  borderline = -1;
}

void RunReport::add_rows(const RowStatsView& stats, std::int64_t count) {
  for (std::int64_t r = 0; r < count; ++r) {
    if (stats.max_key[r] < 0) {
      ++empty_rows;
    } else {
      ++rows_with_keys;
      kept_mass_sum += stats.kept_mass[r];
    }
  }
}

}  // namespace ag
