// SPDX-License-Identifier: Apache-2.0
#include "graph_file.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "escape.hpp"
#include "graph_writer.hpp"
#include "page_writer.hpp"
#include "suffix.hpp"

namespace ag {
namespace {

static_assert(std::ranges::all_of(kGraphFormats, [](const GraphFormatInfo& f) {
  return &kGraphFormats[static_cast<std::size_t>(f.format)] == &f;
}));

// "csv, jsonl and npz": those that have an ability, or that lack it.
std::string format_names(std::uint32_t ability, bool has = true) {
  std::vector<std::string_view> names;
  for (const GraphFormatInfo& f : kGraphFormats)
    if (((f.abilities & ability) == ability) == has) names.emplace_back(f.name);
  const std::string_view last = names.back();
  names.pop_back();
  return fmt::format("{} and {}", fmt::join(names, ", "), last);
}

}  // namespace

GraphFormat graph_format(const std::string& name, const std::string& path) {
  if (name.empty() && path == "-") return GraphFormat::kCsv;
  for (const GraphFormatInfo& f : kGraphFormats)
    if (name.empty() ? has_suffix(path, f.suffix) : name == f.name) return f.format;
  if (name.empty())
    fail(Status::kArgument, "{}: no known format has this suffix; the formats are {}", in_quotes(path),
         format_names(0));
  fail(Status::kArgument, "there is no format {}; the formats are {}", in_quotes(name, 40), format_names(0));
}

std::unique_ptr<GraphSink> open_graph_writer(const std::string& path, GraphFormat format, const WriteOptions& options) {
  const GraphFormatInfo& info = kGraphFormats[static_cast<std::size_t>(format)];
  if (path == "-" && (info.abilities & kStreams) == 0)
    fail(Status::kArgument, "standard output takes {}; write {} to a file", format_names(kStreams),
         format_names(kStreams, false));
  if (options.rows && (info.abilities & kRows) == 0)
    fail(Status::kArgument, "{}: {} has no place for row statistics; write one of {}", in_quotes(path), info.name,
         format_names(kRows));
  switch (format) {
    case GraphFormat::kCsv:
    case GraphFormat::kJsonl: return open_table_writer(path, format, options);
    case GraphFormat::kNpz:
    case GraphFormat::kSafetensors: return open_csr_writer(path, format);
    case GraphFormat::kGraphml:
    case GraphFormat::kDot: return open_drawing_writer(path, format, options);
    case GraphFormat::kHtml: return open_page_writer(path);
  }
  fail(Status::kArgument, "there is no graph format {}", static_cast<int>(format));
}

}  // namespace ag
