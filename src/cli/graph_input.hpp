// SPDX-License-Identifier: Apache-2.0
// What the subcommands on graphs share.
#pragma once

#include <attngraph/attngraph.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace attngraph::cli {

using Json = nlohmann::ordered_json;

// Indented, one line at the end; tokens need not be UTF-8, and what JSON has no number for (NaN) is null.
void print_json(const Json& value);

// Whether a tensor file is a graph in CSR form.
bool holds_graph(const attngraph::file& file);

Json sweep_json(const std::vector<sweep_row>& rows);
void print_sweep(const std::vector<sweep_row>& rows);

}  // namespace attngraph::cli
