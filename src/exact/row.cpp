// SPDX-License-Identifier: Apache-2.0
#include "row.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "../core/edge_rule.hpp"
#include "../core/numbers.hpp"

namespace ag::exact {
namespace {

constexpr int kFirstBits = 96;
constexpr int kMostBits = 1 << 14;
// ln of the smallest positive double is -744.5: a pair whose weight is below e^-kLowest reaches no threshold.
constexpr double kLowest = 750;
constexpr std::size_t kSinkPlace = std::numeric_limits<std::size_t>::max();

struct Sum {
  double sum, error;
};

// sum + error == a + b, exactly (Knuth).
Sum two_sum(double a, double b) {
  const double sum = a + b;
  const double rest = sum - a;
  return {sum, (a - (sum - rest)) + (b - rest)};
}

}  // namespace

RowOracle::RowOracle(const Problem& problem, std::function<void()> poll)
    : p_(problem),
      poll_(std::move(poll)),
      query_(static_cast<std::size_t>(problem.head_dim())),
      key_(static_cast<std::size_t>(problem.head_dim())) {}

void RowOracle::open(std::int64_t batch, std::int64_t head, std::int64_t query) {
  batch_ = batch;
  head_ = head;
  row_ = query;
  keys_.clear();
  masks_.clear();
  dots_.clear();
  wholes_.clear();
  equal_terms_.reset();
  for (std::size_t d = 0; d < query_.size(); ++d) query_[d] = load_double(p_.q.dtype, p_.q.at(batch, head, query, d));
  slope_ = p_.slope(batch, head);
  position_ = query + p_.mask.query_offset;
  sink_ = p_.sinks ? load_double(p_.sinks.dtype, p_.sinks.at(batch, head)) : -kInfinity;
  stored_ = p_.logsumexp ? load_double(p_.logsumexp.dtype, p_.logsumexp.at(batch, head, query)) : 0.0;
  zero_query_ = std::all_of(query_.begin(), query_.end(), [](double x) { return x == 0; });
  const auto finite = [](std::span<const double> row) {
    return std::all_of(row.begin(), row.end(), [](double x) { return std::isfinite(x); });
  };
  const bool skip = p_.nonfinite == Nonfinite::kSkip;
  if (!std::isfinite(stored_) || (skip && !finite(query_))) return;
  const TensorView& mask = p_.mask.tensor;
  const KeyRange range = p_.mask.range(batch, query, p_.keys());
  for (std::int64_t j = range.begin; j < range.end; ++j) {
    const double bias = mask ? mask_bias(mask.dtype, mask.at(batch, head, query, j)) : 0.0;
    if (bias == -kInfinity) continue;
    if (skip && !finite({load_key(j), key_.size()})) continue;
    keys_.push_back(static_cast<std::int32_t>(j));
    if (mask) masks_.push_back(bias);
  }
  dots_.assign(keys_.size(), Dot());
}

const double* RowOracle::load_key(std::int64_t j) {
  const std::int64_t key_head = p_.key_head_of(head_);
  for (std::size_t d = 0; d < key_.size(); ++d) key_[d] = load_double(p_.k.dtype, p_.k.at(batch_, key_head, j, d));
  return key_.data();
}

// Products and sums with their errors, and the errors' sums with theirs: exact unless those are lost too.
RowOracle::Dot RowOracle::dot(std::int64_t j) {
  constexpr double kSmall = 0x1p-900;  // the error of a product above it is no subnormal
  const double* key = load_key(j);
  double sum = 0, error = 0;
  bool exact = true;
  for (std::size_t d = 0; d < query_.size(); ++d) {
    const double product = query_[d] * key[d];
    exact = exact && (std::abs(product) >= kSmall || query_[d] == 0 || key[d] == 0);
    const auto [next, lost] = two_sum(sum, product);
    const auto [with_sum, lost_sum] = two_sum(error, lost);
    const auto [with_product, lost_product] = two_sum(with_sum, std::fma(query_[d], key[d], -product));
    exact = exact && lost_sum == 0 && lost_product == 0;
    sum = next;
    error = with_product;
  }
  const auto [hi, lo] = two_sum(sum, error);
  return {hi, lo, exact, true};
}

const RowOracle::Dot& RowOracle::dot_of(std::size_t n) {
  if (!dots_[n].known) dots_[n] = dot(keys_[n]);
  return dots_[n];
}

void RowOracle::measure_dots() {
  for (std::size_t n = 0; n < keys_.size(); ++n) {
    if (poll_ && n % 1024 == 0) poll_();
    dot_of(n);
  }
}

Real RowOracle::whole_dot(std::size_t n) {
  const Dot& known = dot_of(n);
  if (known.exact) return Real(known.hi) + Real(known.lo);
  if (known.whole >= 0) return wholes_[static_cast<std::size_t>(known.whole)];
  const double* key = load_key(keys_[n]);
  Real sum;
  for (std::size_t d = 0; d < query_.size(); ++d) sum = sum + Real(query_[d]) * Real(key[d]);
  dots_[n].whole = static_cast<std::int32_t>(wholes_.size());
  wholes_.push_back(sum);
  return sum;
}

Real RowOracle::scaled_dot(std::size_t n) { return p_.scale == 0 ? Real() : Real(p_.scale) * whole_dot(n); }

Real RowOracle::whole_bias(std::size_t n) const {
  const Real mask_part(mask(n));
  return slope_ == 0 ? mask_part : mask_part - Real(slope_) * Real(static_cast<double>(distance(n)));
}

bool RowOracle::same_bias(std::size_t a, std::size_t b) const {
  if (mask(a) == mask(b)) return distance(a) == distance(b);
  return slope_ != 0 && whole_bias(a) == whole_bias(b);
}

Ball RowOracle::score(std::size_t n, int bits) {
  const Real scaled = scaled_dot(n);
  if (p_.softcap == 0 || scaled.sign() == 0) return {scaled + whole_bias(n), Real()};  // tanh 0 is 0, exactly
  const int size = std::max(0, std::ilogb(p_.softcap) + 1);
  return soft_cap(scaled, Real(p_.softcap), bits + size) + Ball{whole_bias(n), Real()};
}

// By their bytes: padding, and keys that are there twice, cost no arithmetic.
bool RowOracle::same_key(std::size_t a, std::size_t b) const {
  const std::int64_t key_head = p_.key_head_of(head_);
  if (p_.k.strides[3] != 1 && key_.size() > 1) return false;
  return std::memcmp(p_.k.at(batch_, key_head, keys_[a]), p_.k.at(batch_, key_head, keys_[b]),
                     key_.size() * size_of(p_.k.dtype)) == 0;
}

// tanh is one-to-one, and cap (tanh x - tanh y) is never a rational number but 0 for rational x != y (Lindemann and
// Weierstrass): with a softcap two scores are equal when both of their parts are.
bool RowOracle::same_score(std::size_t a, std::size_t b) {
  if (same_bias(a, b)) {
    if (p_.scale == 0 || zero_query_ || same_key(a, b)) return true;
    const Dot &x = dot_of(a), &y = dot_of(b);
    if (x.exact && y.exact) return x.hi == y.hi && x.lo == y.lo;
    return whole_dot(a) == whole_dot(b);
  }
  if (p_.softcap > 0) return false;
  return scaled_dot(a) + whole_bias(a) == scaled_dot(b) + whole_bias(b);
}

bool RowOracle::equals_sink(std::size_t n) {
  const Real scaled = scaled_dot(n);
  if (p_.softcap > 0 && scaled.sign() != 0) return false;  // tanh of a rational number is none
  return scaled + whole_bias(n) == Real(sink_);
}

std::int64_t RowOracle::equal_terms() {
  if (equal_terms_) return *equal_terms_;
  equal_terms_ = 0;
  if (keys_.empty() || p_.logsumexp) return 0;
  const bool has_sink = sink_ > -kInfinity;
  if (has_sink && !equals_sink(0)) return 0;
  for (std::size_t n = 1; n < keys_.size(); ++n) {
    if (poll_ && n % 1024 == 0) poll_();
    if (!same_score(0, n)) return 0;
  }
  equal_terms_ = static_cast<std::int64_t>(keys_.size()) + has_sink;
  return *equal_terms_;
}

template <class Visit>
bool RowOracle::for_each_term(std::size_t n, int bits, Visit&& visit) {
  // A rough score tells which terms are too small to be looked at: scale (hi + lo) in double, off by less than `slack`.
  const ScoreRule rule = p_.score_rule();
  const auto rough = [&](std::size_t j) { return rule.score(dots_[j].hi + dots_[j].lo, bias(j)); };
  const auto magnitude = [&](std::size_t j) { return std::abs(p_.scale * dots_[j].hi) + bias_size(j); };
  measure_dots();
  const double own = rough(n);
  const Ball own_score = score(n, bits);
  const double negligible = bits + 80;  // e^-negligible, times all keys that there can be, is below 2^-bits
  const Ball nothing{Real(), Real(1).scaled(-std::int64_t{bits} - 64)};
  // Few scores are many keys' where keys are alike, and an exponential is dear: what each of them comes to.
  constexpr std::size_t kMostKept = 4096;
  std::map<std::array<double, 4>, Ball> kept;
  // False: this term alone makes the weight smaller than any threshold.
  const auto term_of = [&](const Ball& difference, Ball& term) {
    if (Real(kLowest) < difference.value - difference.error) return false;
    term = difference.value + difference.error < Real(-negligible) ? nothing : exp(difference, bits);
    return true;
  };
  Ball term;
  for (std::size_t j = 0; j < keys_.size(); ++j) {
    if (poll_ && j % 64 == 0) poll_();
    // A dot product whose errors were lost is still right to some 2^-98 of its parts.
    const double slack = 1 + 0x1p-46 * (magnitude(j) + magnitude(n) + std::abs(own));
    if (dots_[j].exact && dots_[n].exact && rough(j) - own + slack < -negligible) {
      visit(j, nothing);
      continue;
    }
    const std::array<double, 4> known{dots_[j].hi, dots_[j].lo, mask(j), static_cast<double>(distance(j))};
    if (const auto same = kept.find(known); dots_[j].exact && same != kept.end()) {
      visit(j, same->second);
      continue;
    }
    if (!term_of(score(j, bits) - own_score, term)) return false;
    if (dots_[j].exact && kept.size() < kMostKept) kept.emplace(known, term);
    visit(j, term);
  }
  if (sink_ == -kInfinity) return true;
  if (!term_of(Ball{Real(sink_), Real()} - own_score, term)) return false;
  visit(kSinkPlace, term);
  return true;
}

int RowOracle::sign_among_keys(std::size_t n, double threshold, int bits) {
  Ball total{Real(), Real()};
  if (!for_each_term(n, bits, [&](std::size_t, const Ball& term) { total = total + term; })) return 1;
  total_ = total;
  const Ball share = product(total, {Real(threshold), Real()}, bits);
  return sign_of(share - Ball{Real(1), Real()});
}

double RowOracle::weight(std::size_t n) {
  if (p_.logsumexp) {
    const double log = stored_ * p_.logsumexp_unit;
    const Ball score_now = score(n, kFirstBits);
    return std::exp((score_now.value - Real(log)).nearest());
  }
  const std::int64_t terms = equal_terms();
  if (terms > 0) return 1.0 / static_cast<double>(terms);
  return sign_among_keys(n, 0x1p-1000, kFirstBits) > 0 ? 0.0 : 1.0 / total_.value.nearest();
}

bool RowOracle::precedes(std::size_t a, std::size_t b) {
  if (same_score(a, b)) return a < b;
  const double factor = p_.scale;
  if (same_bias(a, b)) {  // then a softcap, which rises, changes no order
    const Dot &x = dot_of(a), &y = dot_of(b);
    if (x.exact && y.exact) {
      const bool larger = x.hi != y.hi ? x.hi > y.hi : x.lo > y.lo;
      return factor > 0 ? larger : !larger;
    }
    return scaled_dot(b) < scaled_dot(a);
  }
  if (p_.softcap == 0) return scaled_dot(b) + whole_bias(b) < scaled_dot(a) + whole_bias(a);
  for (int bits = kFirstBits; bits <= kMostBits; bits *= 2) {
    const int sign = sign_of(score(a, bits) - score(b, bits));
    if (sign != 0) return sign > 0;
  }
  return a < b;
}

Answer RowOracle::reaches(std::size_t n, double threshold) {
  if (threshold <= 0) return Answer::kYes;
  if (p_.logsumexp) return reaches_given(n, threshold);
  const std::int64_t terms = equal_terms();
  if (terms > 0) return is_uniform_row_edge(terms, threshold) ? Answer::kYes : Answer::kNo;
  if (threshold >= 1) return Answer::kNo;  // another term takes its part
  for (int bits = kFirstBits; bits <= kMostBits; bits *= 2) {
    const int sign = sign_among_keys(n, threshold, bits);
    if (sign != 0) return sign < 0 ? Answer::kYes : Answer::kNo;
    // Among m equal terms and others, be they e^-1000000000 of a mask, a weight is below 1 / m.
    if (bits == kFirstBits && std::fma(static_cast<double>(terms_equal_to(n)), threshold, -1.0) >= 0)
      return Answer::kNo;
  }
  return Answer::kUnknown;
}

Ball RowOracle::given_logsumexp_ball(int bits) const {
  if (p_.logsumexp_unit == 1.0) return {Real(stored_), Real()};
  const int size = stored_ == 0 ? 0 : std::max(0, std::ilogb(stored_) + 1);
  return product({Real(stored_), Real()}, ln2(bits + size), bits + size + 32);
}

// Sign of e^(score - logsumexp) - threshold.
int RowOracle::sign_of_given(std::size_t n, double threshold, int bits) {
  const Ball difference = score(n, bits) - given_logsumexp_ball(bits);
  if (difference.value.sign() != 0 && difference.value.log2_floor() >= 18) return difference.value.sign();
  return sign_of(exp(difference, bits) - Ball{Real(threshold), Real()});
}

// e^s = t e^L for rational s, L and t holds for s = L and t = 1 alone, and e^s = t 2^L for s = 0 alone.
Answer RowOracle::reaches_given(std::size_t n, double threshold) {
  const bool base_2 = p_.logsumexp_unit != 1.0;
  const Ball exact = score(n, kFirstBits);
  if (exact.error.sign() == 0) {
    if (!base_2 && exact.value == Real(stored_)) return threshold <= 1 ? Answer::kYes : Answer::kNo;
    if (base_2 && exact.value.sign() == 0 && stored_ == std::floor(stored_) && std::abs(stored_) < 4096) {
      const Real weight = Real(1).scaled(-static_cast<std::int64_t>(stored_));
      return weight < Real(threshold) ? Answer::kNo : Answer::kYes;
    }
  }
  for (int bits = kFirstBits; bits <= kMostBits; bits *= 2) {
    const int sign = sign_of_given(n, threshold, bits);
    if (sign != 0) return sign > 0 ? Answer::kYes : Answer::kNo;
  }
  return Answer::kUnknown;
}

// sum of e^s over a prefix = p * sum over all, rational s and p: the coefficient of every distinct e^s is 0, so there
// is one score alone, and the prefix has p of all terms. With a given logsumexp L: all of its scores are L, or 0 for
// base 2.
std::optional<bool> RowOracle::sum_of_equals_reaches(std::span<const std::size_t> heaviest, double mass) {
  const auto count = static_cast<double>(heaviest.size());
  if (!p_.logsumexp) {
    const std::int64_t terms = equal_terms();
    if (terms == 0) return std::nullopt;
    return std::fma(static_cast<double>(terms), mass, -count) <= 0;
  }
  const bool base_2 = p_.logsumexp_unit != 1.0;
  if (base_2 && !(stored_ == std::floor(stored_) && std::abs(stored_) < 4096)) return std::nullopt;
  const Real common = base_2 ? Real() : Real(stored_);
  for (const std::size_t n : heaviest) {
    const Ball exact = score(n, kFirstBits);
    if (exact.error.sign() != 0 || !(exact.value == common)) return std::nullopt;
  }
  const Real sum = Real(count).scaled(base_2 ? -static_cast<std::int64_t>(stored_) : 0);
  return !(sum < Real(mass));
}

std::int64_t RowOracle::terms_equal_to(std::size_t n) {
  std::int64_t count = sink_ > -kInfinity && equals_sink(n);
  for (std::size_t j = 0; j < keys_.size(); ++j) {
    if (poll_ && j % 1024 == 0) poll_();
    count += j == n || same_score(j, n);
  }
  return count;
}

// c of m equal terms, with others beside them, sum to less than c / m.
bool RowOracle::equals_stay_below(std::span<const std::size_t> heaviest, double mass) {
  const std::size_t first = heaviest.front();
  if (!std::all_of(heaviest.begin(), heaviest.end(), [&](std::size_t n) { return n == first || same_score(n, first); }))
    return false;
  return std::fma(static_cast<double>(terms_equal_to(first)), mass, -static_cast<double>(heaviest.size())) >= 0;
}

int RowOracle::sign_of_sum(std::span<const std::size_t> heaviest, double mass, int bits) {
  Ball part{Real(), Real()};
  if (!p_.logsumexp) {
    std::vector<char> inside(keys_.size(), 0);
    for (const std::size_t n : heaviest) inside[n] = 1;
    Ball total{Real(), Real()};
    const bool fits = for_each_term(heaviest.front(), bits, [&](std::size_t n, const Ball& term) {
      total = total + term;
      if (n != kSinkPlace && inside[n]) part = part + term;
    });
    if (!fits) return -1;  // the sink takes all but e^-750 of the mass
    return sign_of(part - product(total, {Real(mass), Real()}, bits));
  }
  const Ball log = given_logsumexp_ball(bits);
  for (const std::size_t n : heaviest) {
    if (poll_ && n % 64 == 0) poll_();
    const Ball difference = score(n, bits) - log;
    if (Real(1) < difference.value - difference.error) return 1;  // e, and a mass is at most 1
    if (difference.value + difference.error < Real(-kLowest - bits)) {
      part.error = part.error + Real(1).scaled(-static_cast<std::int64_t>(kLowest) - bits);
      continue;
    }
    part = part + exp(difference, bits);
  }
  return sign_of(part - Ball{Real(mass), Real()});
}

Answer RowOracle::sum_reaches(std::span<const std::size_t> heaviest, double mass) {
  if (mass <= 0) return Answer::kYes;
  if (heaviest.empty()) return Answer::kNo;
  if (const std::optional<bool> equal = sum_of_equals_reaches(heaviest, mass)) {
    return *equal ? Answer::kYes : Answer::kNo;
  }
  if (!p_.logsumexp && mass >= 1) {  // all keys reach 1, unless a sink has its part
    return heaviest.size() == keys_.size() && sink_ == -kInfinity ? Answer::kYes : Answer::kNo;
  }
  for (int bits = kFirstBits; bits <= kMostBits; bits *= 2) {
    const int sign = sign_of_sum(heaviest, mass, bits);
    if (sign != 0) return sign > 0 ? Answer::kYes : Answer::kNo;
    if (bits == kFirstBits && !p_.logsumexp && equals_stay_below(heaviest, mass)) return Answer::kNo;
  }
  return Answer::kUnknown;
}

}  // namespace ag::exact
