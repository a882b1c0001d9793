// SPDX-License-Identifier: Apache-2.0
#include "row_stats.hpp"

#include <cmath>
#include <limits>

namespace ag {
namespace {

// The smallest float that is not below x. NaN stays NaN.
float rounded_up(double x) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  if (x > static_cast<double>(kLargest)) return std::numeric_limits<float>::infinity();
  const float nearest = static_cast<float>(x);
  return static_cast<double>(nearest) < x ? std::nextafter(nearest, kLargest) : nearest;
}

}  // namespace

RowColumns::RowColumns(std::initializer_list<RowStats> rows) {
  for (const RowStats& row : rows) push_back(row);
}

void RowColumns::push_back(const RowStats& row) {
  logsumexp.push_back(row.logsumexp);
  maximum.push_back(row.maximum);
  kept_mass.push_back(row.kept_mass);
  entropy.push_back(row.entropy);
  max_key.push_back(row.max_key);
}

void RowColumns::append(const RowStatsView& rows, std::int64_t count) {
  const auto add = [count](auto& column, const auto* values) { column.insert(column.end(), values, values + count); };
  add(logsumexp, rows.logsumexp);
  add(maximum, rows.maximum);
  add(kept_mass, rows.kept_mass);
  if (rows.entropy != nullptr) {
    add(entropy, rows.entropy);
  } else {
    entropy.insert(entropy.end(), idx(count), kNaN);
  }
  add(max_key, rows.max_key);
}

void RowColumns::clear() {
  logsumexp.clear();
  maximum.clear();
  kept_mass.clear();
  entropy.clear();
  max_key.clear();
}

RowStatsView StatedColumns::view() const {
  RowStatsView all = columns.view();
  all.eps = eps.data();
  return all;
}

void StatedColumns::push_back(const RowStats& row) {
  columns.push_back(row);
  eps.push_back(rounded_up(row.eps));
}

void StatedColumns::clear() {
  columns.clear();
  eps.clear();
}

}  // namespace ag
