// SPDX-License-Identifier: Apache-2.0
// Graphs in files: writers that stream, and a reader for what they wrote.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../graph/edge_list.hpp"

namespace ag {

enum class GraphFormat { kCsv, kJsonl, kNpz, kSafetensors, kGraphml, kDot, kHtml };

// What a format can do; the same numbers as ATTNGRAPH_FORMAT_*, which src/api asserts.
enum FormatAbility : std::uint32_t {
  kReads = 1,       // read_graph() reads it
  kWhole = 2,       // and finds all that was written
  kStreams = 4,     // to standard output
  kRows = 8,        // WriteOptions::rows
  kLabels = 16,     // WriteOptions::labels; the others always have words
  kDirection = 32,  // WriteOptions::key_to_query
};

struct GraphFormatInfo {
  GraphFormat format;
  const char* name;
  const char* suffix;
  std::uint32_t abilities;
};

// In the order of GraphFormat.
inline constexpr GraphFormatInfo kGraphFormats[] = {
    {GraphFormat::kCsv, "csv", ".csv", kReads | kStreams | kRows | kLabels},
    {GraphFormat::kJsonl, "jsonl", ".jsonl", kReads | kStreams | kRows | kLabels},
    {GraphFormat::kNpz, "npz", ".npz", kReads | kWhole | kRows},
    {GraphFormat::kSafetensors, "safetensors", ".safetensors", kReads | kWhole | kRows},
    {GraphFormat::kGraphml, "graphml", ".graphml", kStreams | kDirection},
    {GraphFormat::kDot, "dot", ".dot", kStreams | kDirection},
    {GraphFormat::kHtml, "html", ".html", kStreams}};

// By explicit name ("csv"), or by the path's suffix when `name` is empty; standard output takes csv then. kArgument
// lists the formats.
GraphFormat graph_format(const std::string& name, const std::string& path);

struct WriteOptions {
  bool key_to_query = false;  // direction of GraphML and DOT edges
  bool labels = false;        // query_token, key_token columns
  bool csv_raw = false;       // no guard against spreadsheet formulas
  bool rows = false;          // row statistics too
};

// Rows may come from any number of calls and be more than fit in memory. The file appears under its name in finish(),
// complete, in one step. path "-" is standard output. kArgument for what the format has no place for.
std::unique_ptr<GraphSink> open_graph_writer(const std::string& path, GraphFormat format, const WriteOptions& options);

// Formats that say kReads, as written above; told by content. Tables carry edges only: rows reach
// from 0 to the last query seen, kept mass is the sum of the weights, the other statistics are NaN.
EdgeList read_graph(const std::string& path);

// Tokens: a JSON list of strings, a list of such lists, one for each sequence of a batch, or text with one token a line
// (a last empty line does not count).
Labels parse_tokens_json(const std::string& json, const std::string& where);
Labels read_tokens(const std::string& path);

// Tokens as byte-level tokenizers spell them ("\u0120the", where every byte is a visible character) become the bytes
// they stand for (" the"). Others stay as they are.
Labels spelled_out(Labels tokens);

}  // namespace ag
