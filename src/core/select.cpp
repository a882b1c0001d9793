// SPDX-License-Identifier: Apache-2.0
#include "select.hpp"

#include <algorithm>

namespace ag {

namespace {

bool heavier(const RowEdge& a, const RowEdge& b) { return a.weight != b.weight ? a.weight > b.weight : a.key < b.key; }

// Keep `last` and what is heavier, in the order at hand.
void keep_down_to(const RowEdge& last, std::vector<RowEdge>& edges) {
  std::erase_if(edges, [&](const RowEdge& e) { return heavier(last, e); });
}

void keep_top(std::size_t top, std::vector<RowEdge>& edges) {
  if (top == 0 || edges.size() <= top) return;
  std::vector<RowEdge> order = edges;
  const auto last = order.begin() + static_cast<std::ptrdiff_t>(top - 1);
  std::nth_element(order.begin(), last, order.end(), heavier);
  keep_down_to(*last, edges);
}

// A sum with the errors of its additions (Knuth): which prefix reaches a mass must not hang on the order of adding.
class WholeSum {
 public:
  void add(double term) {
    const double next = sum_ + term;
    const double rest = next - sum_;
    lost_ += (sum_ - (next - rest)) + (term - rest);
    sum_ = next;
  }
  double less(double what) const { return (sum_ - what) + lost_; }

 private:
  double sum_ = 0;
  double lost_ = 0;
};

void keep_mass(double mass, std::vector<RowEdge>& edges) {
  // A weight that is not positive, which a matrix may hold, brings no prefix nearer to the mass.
  WholeSum total;
  for (const RowEdge& e : edges) {
    if (e.weight > 0) total.add(e.weight);
  }
  const double spare = total.less(mass);
  if (spare < 0) return;
  // An edge that outweighs all that may be left out cannot be left out. Only the others need an order, and a backend
  // whose candidates are tight leaves few of them.
  const double certain = spare * (1 + 1e-9) + 1e-12 * mass;
  WholeSum sum;
  std::vector<RowEdge> doubtful;
  for (const RowEdge& e : edges) {
    if (e.weight > certain) {
      sum.add(e.weight);
    } else {
      doubtful.push_back(e);
    }
  }
  std::sort(doubtful.begin(), doubtful.end(), heavier);
  std::size_t n = 0;
  while (n < doubtful.size() && sum.less(mass) < 0) sum.add(doubtful[n++].weight);
  if (n == doubtful.size()) return;
  if (n > 0) return keep_down_to(doubtful[n - 1], edges);
  std::erase_if(edges, [&](const RowEdge& e) { return e.weight <= certain; });
}

}  // namespace

void select_row(const Selection& selection, std::vector<RowEdge>& edges) {
  keep_top(static_cast<std::size_t>(selection.top_k), edges);
  if (selection.mass > 0) keep_mass(selection.mass, edges);
  const auto by_key = [](const RowEdge& a, const RowEdge& b) { return a.key < b.key; };
  if (!std::is_sorted(edges.begin(), edges.end(), by_key)) std::sort(edges.begin(), edges.end(), by_key);
}

double mass_cut(double mass, std::int64_t m) { return m > 0 ? (1.0 - mass) / static_cast<double>(m) : 0.0; }

}  // namespace ag
