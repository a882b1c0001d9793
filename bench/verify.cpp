// SPDX-License-Identifier: Apache-2.0
#include "verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

namespace ag::bench {
namespace {

using Row = std::map<std::int64_t, double>;  // weight by key

Row row_of(const attngraph::slice& slice, std::int64_t query) {
  Row row;
  const auto r = static_cast<std::size_t>(query - slice.query_begin);
  for (auto e = static_cast<std::size_t>(slice.offsets[r]); e < static_cast<std::size_t>(slice.offsets[r + 1]); ++e)
    row[slice.keys[e]] = slice.weight(e);
  return row;
}

double smallest(const Row& row) {
  double weight = HUGE_VAL;
  for (const auto& [key, w] : row) weight = std::min(weight, w);
  return weight;
}

double sum(const Row& row) {
  double total = 0;
  for (const auto& [key, w] : row) total += w;
  return total;
}

bool near(double a, double b, double band) { return std::abs(a - b) <= band * std::max(std::abs(a), std::abs(b)); }

// May a right answer keep this key of `one` although the other right answer leaves it out? Only at the edge of the
// rule: a weight at the threshold, a tie of the lightest kept keys, a sum at the mass.
bool may_differ(const Rule& rule, const Row& one, const Row& other, double weight, double band) {
  if (rule.threshold > 0 && near(weight, rule.threshold, band)) return true;
  if (rule.top_k > 0 && near(weight, smallest(other), band)) return true;
  return rule.mass > 0 && near(std::min(sum(one), sum(other)), rule.mass, 1e-4);
}

std::string compare(const Rule& rule, const Row& expected, const Row& found, double band) {
  constexpr double kWeightBand = 2e-5;  // what the contract promises
  for (const auto& [key, weight] : expected) {
    const auto match = found.find(key);
    if (match == found.end()) {
      if (!may_differ(rule, expected, found, weight, band)) return fmt::format("key {} ({}) is missing", key, weight);
    } else if (!near(weight, match->second, kWeightBand)) {
      return fmt::format("key {} weighs {} and not {}", key, match->second, weight);
    }
  }
  for (const auto& [key, weight] : found) {
    if (expected.count(key) == 0 && !may_differ(rule, found, expected, weight, band))
      return fmt::format("key {} ({}) does not belong there", key, weight);
  }
  return "";
}

// reference(query): the same call for one row.
template <class Reference>
void check_rows(const attngraph::result& answer, const Rule& rule, double band, Reference&& reference) {
  if (answer.slice_count() == 0) return;
  const std::int64_t queries = answer.slice(0).query_count;
  std::set<std::int64_t> rows;
  if (queries > 0) rows = {0, 1 % queries, 13 % queries, queries / 3, queries / 2, queries * 7 / 8, queries - 1};
  for (const std::int64_t query : rows) {
    const attngraph::result right = reference(query);
    for (std::int64_t s = 0; s < answer.slice_count(); ++s) {
      const std::string wrong = compare(rule, row_of(right.slice(s), query), row_of(answer.slice(s), query), band);
      if (!wrong.empty())
        throw std::runtime_error(fmt::format("wrong answer, slice {}, query {}: {}", s, query, wrong));
    }
  }
}

}  // namespace

void check_extract(attngraph::context& context, const attngraph::tensor& q, const attngraph::tensor& k,
                   const attngraph::options& how, const Rule& rule, const attngraph::result& answer) {
  check_rows(answer, rule, answer.report().eps + 1e-6, [&](std::int64_t query) {
    attngraph::options one = how;
    return context.extract(q, k, one.backend("reference").query_range(query, query + 1));
  });
}

void check_filter(attngraph::context& context, const attngraph::tensor& weights, const attngraph::options& how,
                  const attngraph::result& answer) {
  check_rows(answer, Rule{}, 0, [&](std::int64_t query) {
    attngraph::options one = how;
    return context.filter(weights, one.backend("reference").query_range(query, query + 1));
  });
}

}  // namespace ag::bench
