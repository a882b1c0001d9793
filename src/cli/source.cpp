// SPDX-License-Identifier: Apache-2.0
#include "source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text.hpp"

namespace attngraph::cli {

std::vector<std::string> float_names() {
  std::vector<std::string> names;
  for (const attngraph_dtype dtype : kFloats) names.emplace_back(attngraph_dtype_name(dtype));
  return names;
}

bool is_float(attngraph_dtype dtype) {
  return std::find(std::begin(kFloats), std::end(kFloats), dtype) != std::end(kFloats);
}

std::optional<tensor> readable(const attngraph::file& file, const std::string& name) {
  try {
    return file.info(name);
  } catch (const error& e) {
    if (e.status() != ATTNGRAPH_ERROR_UNSUPPORTED) throw;
    return std::nullopt;
  }
}

std::vector<std::string> float_tensors(const attngraph::file& file, std::size_t least_dims, std::size_t most_dims) {
  std::vector<std::string> found;
  for (const std::string& name : file.names()) {
    const auto t = readable(file, name);
    if (t && is_float(t->dtype()) && t->shape().size() >= least_dims && t->shape().size() <= most_dims)
      found.push_back(name);
  }
  return found;
}

std::optional<std::int64_t> layer_suffix(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos) return std::nullopt;
  std::int64_t label = 0;
  const char* end = name.data() + name.size();
  const auto [stop, failure] = std::from_chars(name.data() + dot + 1, end, label);
  if (failure != std::errc() || stop != end || label < 0) return std::nullopt;
  return label;
}

bool holds_qk(const attngraph::file& file) {
  const auto names = file.names();
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.starts_with("q.") && layer_suffix(name); });
}

std::string describe(const std::string& name, const tensor& t) {
  return fmt::format("{}{}[{}] {}", name, name.empty() ? "" : " ", fmt::join(t.shape(), ", "),
                     attngraph_dtype_name(t.dtype()));
}

void apply_range(options& o, const std::optional<QueryRange>& range, std::int64_t queries) {
  if (!range) return;
  const std::int64_t end = range->end.value_or(queries);
  if (range->begin >= end || end > queries)
    throw error(ATTNGRAPH_ERROR_ARGUMENT,
                fmt::format("--query-range {}:{} lies outside the {} queries", range->begin, end, queries));
  o.query_range(range->begin, end);
}

std::vector<std::size_t> choose_layers(const std::optional<std::vector<std::int64_t>>& wanted,
                                       const std::vector<std::int64_t>& available, const std::string& path) {
  std::vector<std::size_t> chosen;
  if (!wanted) {
    for (std::size_t i = 0; i < available.size(); ++i) chosen.push_back(i);
    return chosen;
  }
  for (const std::int64_t layer : *wanted) {
    const auto found = std::find(available.begin(), available.end(), layer);
    if (found == available.end())
      throw error(ATTNGRAPH_ERROR_NOT_FOUND,
                  fmt::format("'{}' has no layer {}; it has {}", path, layer, numbers(available)));
    chosen.push_back(static_cast<std::size_t>(found - available.begin()));
  }
  return chosen;
}

}  // namespace attngraph::cli
