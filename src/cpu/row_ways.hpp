// SPDX-License-Identifier: Apache-2.0
// What each row of a task is computed in. A function of the row's own query and of the keys that it may see, and of
// nothing else: so the rows of a whole pass, of any query range and of steps that append keys have the same bits.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/ordered_tasks.hpp"
#include "kernels.hpp"
#include "key_cache.hpp"

namespace ag::cpu {

enum class Way : std::uint8_t {
  kFloat,
  kPairs,   // the plan's product, where its band and its sums allow it
  kDouble,  // float cannot hold the band
};
inline constexpr std::size_t kWays = 3;

struct RowPlan {
  Way way = Way::kFloat;
  double query_norm = 0;  // NaN: the query is not finite
  double key_norm = 0;    // the largest of the keys that the row may see, and of those before them
};

// Queries [begin, end) of some query heads of one group, head after head: row r is query begin + r % (end - begin) of
// heads[r / (end - begin)].
struct RowSpan {
  std::span<const std::int64_t> heads;
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t queries() const { return end - begin; }
  std::int64_t count() const { return static_cast<std::int64_t>(heads.size()) * queries(); }
  std::int64_t head(std::int64_t r) const { return heads[static_cast<std::size_t>(r / queries())]; }
  std::int64_t query(std::int64_t r) const { return begin + r % queries(); }
};

class RowWays {
 public:
  explicit RowWays(const Job& job);
  // One plan for each row of the span. Throws kRange for rows on kept keys: nobody has scanned their queries.
  std::span<RowPlan> choose(const RowSpan& span, const KeySlot& slot, const Poll& poll);

 private:
  Way way_of(double query_norm, double key_norm, std::int64_t keys) const;

  const Job& job_;
  const Kernels<float> float_, pairs_;
  RowNorm row_norm_;
  std::vector<RowPlan> rows_;
};

}  // namespace ag::cpu
