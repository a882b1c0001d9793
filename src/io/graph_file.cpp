// SPDX-License-Identifier: Apache-2.0
#include "graph_file.hpp"

#include <algorithm>

#include "escape.hpp"
#include "graph_writer.hpp"
#include "page_writer.hpp"
#include "suffix.hpp"

namespace ag {
namespace {

constexpr std::pair<std::string_view, GraphFormat> kFormats[] = {
    {"csv", GraphFormat::kCsv},         {"jsonl", GraphFormat::kJsonl},
    {"npz", GraphFormat::kNpz},         {"safetensors", GraphFormat::kSafetensors},
    {"graphml", GraphFormat::kGraphml}, {"dot", GraphFormat::kDot},
    {"html", GraphFormat::kHtml}};
constexpr const char* kFormatNames = "csv, jsonl, npz, safetensors, graphml, dot and html";

}  // namespace

GraphFormat graph_format(const std::string& name, const std::string& path) {
  if (name.empty() && path == "-") return GraphFormat::kCsv;
  for (const auto& [format_name, format] : kFormats) {
    if (name.empty() ? has_suffix(path, fmt::format(".{}", format_name)) : name == format_name) return format;
  }
  if (name.empty()) {
    fail(Status::kArgument, "{}: no known format has this suffix; the formats are {}", in_quotes(path), kFormatNames);
  }
  fail(Status::kArgument, "there is no format {}; the formats are {}", in_quotes(name, 40), kFormatNames);
}

std::unique_ptr<GraphSink> open_graph_writer(const std::string& path, GraphFormat format, const WriteOptions& options) {
  switch (format) {
    case GraphFormat::kCsv:
    case GraphFormat::kJsonl: return open_table_writer(path, format, options);
    case GraphFormat::kNpz:
    case GraphFormat::kSafetensors: return open_csr_writer(path, format);
    case GraphFormat::kGraphml:
    case GraphFormat::kDot: return open_drawing_writer(path, format, options);
    case GraphFormat::kHtml: return open_page_writer(path, options);
  }
  fail(Status::kArgument, "there is no graph format {}", static_cast<int>(format));
}

}  // namespace ag
