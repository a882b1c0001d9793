// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <unordered_map>

#include "../core/error.hpp"
#include "../core/numbers.hpp"
#include "moved.hpp"

namespace ag {
namespace {

// E. W. Myers, An O(ND) Difference Algorithm and Its Variations, 1986: furthest reaching paths by diagonal k = x - y.
// Frontiers of all steps are kept, to walk back along.
class Walk {
 public:
  Walk(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b, std::int64_t limit)
      : a_(a), b_(b), limit_(limit) {}

  // Calls match(x, y) for every pair of equal elements on the way, last first.
  template <class Match>
  void run(Match&& match) {
    const auto n = static_cast<std::int64_t>(a_.size()), m = static_cast<std::int64_t>(b_.size());
    for (std::int64_t d = 0;; ++d) {
      if (d > limit_) {
        fail(Status::kLimit, "the tokens differ in more than {} places; align them by hand, or compare shorter parts",
             limit_);
      }
      frontiers_.emplace_back(idx(2 * d + 1));
      for (std::int64_t k = -d; k <= d; k += 2) {
        std::int64_t x = start(d, k);
        while (x < n && x - k < m && a_[idx(x)] == b_[idx(x - k)]) ++x;
        frontiers_.back()[idx(k + d)] = static_cast<std::int32_t>(x);
        if (x >= n && x - k >= m) return walk_back(d, k, match);
      }
    }
  }

 private:
  std::int64_t reached(std::int64_t d, std::int64_t k) const { return frontiers_[idx(d)][idx(k + d)]; }
  bool comes_from_above(std::int64_t d, std::int64_t k) const {
    return k == -d || (k != d && reached(d - 1, k - 1) < reached(d - 1, k + 1));
  }
  // Where step d enters diagonal k, before the run of equal elements.
  std::int64_t start(std::int64_t d, std::int64_t k) const {
    if (d == 0) return 0;
    return comes_from_above(d, k) ? reached(d - 1, k + 1) : reached(d - 1, k - 1) + 1;
  }
  template <class Match>
  void walk_back(std::int64_t d, std::int64_t k, Match&& match) const {
    for (; d >= 0; --d) {
      const std::int64_t begin = start(d, k);
      for (std::int64_t x = reached(d, k) - 1; x >= begin; --x) match(x, x - k);
      if (d > 0) k += comes_from_above(d, k) ? 1 : -1;
    }
  }

  const std::vector<std::int32_t>& a_;
  const std::vector<std::int32_t>& b_;
  const std::int64_t limit_;
  std::vector<std::vector<std::int32_t>> frontiers_;
};

}  // namespace

std::vector<std::int64_t> align(std::span<const std::string> a, std::span<const std::string> b, std::int64_t limit) {
  std::vector<std::int64_t> positions(a.size(), -1);
  // What is the same at both ends costs nothing.
  std::size_t front = 0, back = 0;
  const std::size_t shorter = std::min(a.size(), b.size());
  while (front < shorter && a[front] == b[front]) ++front;
  while (back < shorter - front && a[a.size() - 1 - back] == b[b.size() - 1 - back]) ++back;
  for (std::size_t n = 0; n < front; ++n) positions[n] = static_cast<std::int64_t>(n);
  for (std::size_t n = 1; n <= back; ++n) positions[a.size() - n] = static_cast<std::int64_t>(b.size() - n);

  std::unordered_map<std::string_view, std::int32_t> numbers;
  const auto numbered = [&](std::span<const std::string> texts) {
    std::vector<std::int32_t> out;
    for (const std::string& text : texts.subspan(front, texts.size() - front - back))
      out.push_back(numbers.emplace(text, static_cast<std::int32_t>(numbers.size())).first->second);
    return out;
  };
  const std::vector<std::int32_t> rest_a = numbered(a), rest_b = numbered(b);
  const auto shift = static_cast<std::int64_t>(front);
  Walk(rest_a, rest_b, limit).run([&](std::int64_t x, std::int64_t y) { positions[idx(x + shift)] = y + shift; });
  return positions;
}

}  // namespace ag
