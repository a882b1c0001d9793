// SPDX-License-Identifier: Apache-2.0
// Which part of a graph: the flags of `part` and `top`.
#pragma once

#include <attngraph/attngraph.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"

namespace attngraph::cli {

struct PartFlags {
  std::optional<double> threshold;
  std::optional<std::int64_t> top_k;
  std::string layers, heads, queries, keys, distance;
  std::vector<std::string> query_tokens, key_tokens;
  bool without_first = false;

  void add(CLI::App& app);
  bool any() const;
  // Tokens are looked up in the graph.
  part of(const result& graph) const;
};

}  // namespace attngraph::cli
