// SPDX-License-Identifier: Apache-2.0
#include "graph_input.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "table.hpp"
#include "text.hpp"

namespace attngraph::cli {

void print_json(const Json& value) { fmt::print("{}\n", value.dump(2, ' ', false, Json::error_handler_t::replace)); }

bool holds_graph(const attngraph::file& file) {
  const auto names = file.names();
  const auto has = [&](const char* name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  return has("offsets") && has("keys") && has("weights");
}

Json sweep_json(const std::vector<sweep_row>& rows) {
  Json list = Json::array();
  for (const sweep_row& r : rows)
    list.push_back({{"threshold", r.threshold}, {"edges", r.edges}, {"kept_mass", r.kept_mass}, {"nodes", r.nodes}});
  return list;
}

void print_sweep(const std::vector<sweep_row>& rows) {
  Table table({"threshold", "edges", "kept mass", "nodes"});
  for (const sweep_row& r : rows)
    table.row({shortest(r.threshold), grouped(r.edges), percent(r.kept_mass), grouped(r.nodes)});
  fmt::print("{}", table.text());
}

}  // namespace attngraph::cli
