// SPDX-License-Identifier: Apache-2.0
#include "heads.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "operations.hpp"
#include "words.hpp"

#include "../core/numbers.hpp"

namespace ag {
namespace {

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

bool is_matrix(const Metadata& metadata) {
  const auto fact = metadata.facts.find("weights");
  return fact == metadata.facts.end() || fact->second != "softmax";
}

void count_rows(const EdgeList& graph, const Slice& slice, HeadFigures& out) {
  const std::int64_t* offsets = graph.offsets.data() + slice.first_offset;
  double kept = 0, entropy = 0;
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    const auto row = static_cast<std::size_t>(slice.first_row + r);
    if (!has_keys(graph.rows.maximum[row], graph.rows.max_key[row], offsets[r + 1] - offsets[r])) continue;
    out.queries += 1;
    kept += graph.rows.kept_mass[row];
    entropy += graph.rows.entropy[row];
  }
  out.edges = slice.edge_count;
  const auto queries = static_cast<double>(out.queries);
  out.kept_mass = out.queries > 0 ? kept / queries : kNaN;
  out.entropy = out.queries > 0 ? entropy / queries : kNaN;
}

void fill_from_distances(const SliceSums& sums, std::int64_t window, double whole, HeadFigures& out) {
  double in_window = 0, weighted = 0, self = 0, previous = 0;
  for (std::size_t n = 0; n < sums.distances.size(); ++n) {
    const std::int64_t distance = sums.distance_begin + static_cast<std::int64_t>(n);
    const double mass = sums.distances[n];
    const std::int64_t length = std::abs(distance);
    weighted += mass * static_cast<double>(length);
    if (length < window) in_window += mass;
    if (distance == 0) self = mass;
    if (distance == 1) previous = mass;
  }
  out.self_share = self / whole;
  out.previous_share = previous / whole;
  out.window_share = in_window / whole;
  out.mean_distance = weighted / sum_of(sums.distances);
}

void fill_from_columns(const SliceSums& sums, const std::vector<bool>& punctuation, double whole, HeadFigures& out) {
  const auto heaviest = std::max_element(sums.received.begin(), sums.received.end());
  out.first_share = sums.received.front() / whole;
  out.heaviest_key = heaviest - sums.received.begin();
  out.heaviest_share = *heaviest / whole;
  if (punctuation.empty()) return;
  double marks = 0;
  for (std::size_t key = 0; key < std::min(punctuation.size(), sums.received.size()); ++key)
    if (punctuation[key]) marks += sums.received[key];
  out.punctuation_share = marks / whole;
}

HeadFigures unknown_figures(const SliceId& id) {
  HeadFigures out;
  out.id = id;
  for (double HeadFigures::*field :
       {&HeadFigures::self_share, &HeadFigures::previous_share, &HeadFigures::window_share, &HeadFigures::mean_distance,
        &HeadFigures::first_share, &HeadFigures::heaviest_share, &HeadFigures::punctuation_share,
        &HeadFigures::induction_share, &HeadFigures::duplicate_share, &HeadFigures::same_word_share})
    out.*field = kNaN;
  return out;
}

}  // namespace

std::vector<HeadFigures> heads(const EdgeList& graph, std::int64_t window) {
  std::vector<bool> punctuation;
  for (const std::string& token : graph.metadata.tokens.common()) punctuation.push_back(is_punctuation(token));
  const bool matrix = is_matrix(graph.metadata);
  std::vector<HeadFigures> table;
  for (const Slice& slice : graph.slices) {
    HeadFigures out = unknown_figures(slice.info.id);
    count_rows(graph, slice, out);
    const SliceSums& sums = slice.sums;
    double whole = out.queries > 0 ? static_cast<double>(out.queries) : kNaN;
    if (matrix)
      whole = !sums.received.empty() ? sum_of(sums.received) : !sums.distances.empty() ? sum_of(sums.distances) : kNaN;
    // Queries of another sequence have no distance from the keys, and no word among theirs.
    const bool apart = graph.metadata.two_sided();
    if (!sums.distances.empty() && !apart) fill_from_distances(sums, window, whole, out);
    if (!sums.received.empty()) fill_from_columns(sums, punctuation, whole, out);
    if (sums.tokens.size() == kTokenRelations && !apart) {
      const auto share = [&](TokenRelation relation) {
        return sums.tokens[static_cast<std::size_t>(relation)] / whole;
      };
      out.induction_share = share(TokenRelation::kInduction);
      out.duplicate_share = share(TokenRelation::kDuplicate);
      out.same_word_share = share(TokenRelation::kSameWord);
    }
    table.push_back(out);
  }
  return table;
}

}  // namespace ag
