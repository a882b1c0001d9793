// SPDX-License-Identifier: Apache-2.0
#include "facts.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace ag::api {
namespace {

template <class T>
void add_if(Facts& facts, bool given, const char* name, T value) {
  if (given) facts[name] = fmt::format("{}", value);
}

Facts shared_facts(const Request& request) {
  const Selection& selection = request.selection;
  const MaskRules& mask = request.mask;
  Facts facts;
  add_if(facts, true, "threshold", selection.threshold);
  add_if(facts, selection.top_k > 0, "top_k", selection.top_k);
  add_if(facts, selection.mass > 0, "mass", selection.mass);
  add_if(facts, true, "causal", mask.causal);
  add_if(facts, mask.window > 0, "window", mask.window);
  add_if(facts, true, "query_offset", mask.query_offset);
  return facts;
}

// Slopes of one batch where all have the same, and otherwise of every one.
std::vector<double> one_of_equal_batches(const Problem& problem) {
  const auto heads = static_cast<std::ptrdiff_t>(problem.query_heads());
  const std::vector<double>& all = problem.alibi;
  const bool alike = all.empty() || std::equal(all.begin() + heads, all.end(), all.begin());
  return {all.begin(), alike && !all.empty() ? all.begin() + heads : all.end()};
}

}  // namespace

Facts facts_of(const Problem& problem) {
  Facts facts = shared_facts(problem);
  facts["weights"] = "softmax";
  add_if(facts, true, "scale", problem.scale);
  add_if(facts, problem.softcap > 0, "softcap", problem.softcap);
  const std::vector<double> slopes = one_of_equal_batches(problem);
  if (!slopes.empty()) facts["alibi"] = fmt::format("{}", fmt::join(slopes, ","));
  return facts;
}

Facts facts_of(const MatrixProblem& problem) {
  Facts facts = shared_facts(problem);
  facts["weights"] = "matrix";
  return facts;
}

}  // namespace ag::api
