// SPDX-License-Identifier: Apache-2.0
// What a graph file carries beside its arrays: names and values, both text, the same in npz and safetensors.
#pragma once

#include <map>
#include <string>

#include "../graph/edge_list.hpp"

namespace ag {

inline constexpr const char* kGraphFormatName = "attngraph-graph";
inline constexpr const char* kGraphFormatVersion = "1";

using Facts = std::map<std::string, std::string>;

// `format`, `format_version`, `tokens` and `query_tokens` (JSON lists) and `report.*` beside the facts of the graph.
Facts facts_to_write(const Metadata& metadata, const RunReport& report);

// The reverse: splits `facts` into the three. `where` names the file in messages.
void read_facts(const Facts& facts, const std::string& where, Metadata& metadata, RunReport& report);

// {"name": "value", ...}
std::string facts_to_json(const Facts& facts);
Facts facts_from_json(const std::string& json, const std::string& where);

}  // namespace ag
