// SPDX-License-Identifier: Apache-2.0
#include "settings.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "text.hpp"

namespace attngraph::cli {
namespace {

template <class T>
T parse_fact(std::string_view name, const std::string& text) {
  T value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size())
    throw error(ATTNGRAPH_ERROR_FORMAT,
                fmt::format("metadata '{}' is '{}', not a number; give --{}", name, text.substr(0, 40),
                            name == "query_offset" ? "query-offset" : name));
  return value;
}

template <>
bool parse_fact<bool>(std::string_view name, const std::string& text) {
  if (text == "true" || text == "True" || text == "1") return true;
  if (text == "false" || text == "False" || text == "0") return false;
  throw error(
      ATTNGRAPH_ERROR_FORMAT,
      fmt::format("metadata '{}' is '{}', not true or false; give --causal or --no-causal", name, text.substr(0, 40)));
}

// T is what is stored, Value what the text holds: optional<double> and double, or the same.
template <class Value, class T>
void choose(Setting<T>& setting, const std::optional<Value>& flag, const Lookup& metadata, std::string_view name) {
  if (flag) {
    setting = {*flag, Origin::kFlag};
  } else if (const auto text = metadata(name)) {
    setting = {parse_fact<Value>(name, *text), Origin::kMetadata};
  }
}

}  // namespace

const char* origin_name(Origin origin) {
  return origin == Origin::kFlag ? "flag" : origin == Origin::kMetadata ? "metadata" : "default";
}

Settings::Settings(const ScoreFlags& flags, const Lookup& metadata, bool scores)
    : causal{scores, Origin::kDefault}, scores_(scores) {
  if (flags.scale && !std::isfinite(*flags.scale)) throw UsageError("--scale: give a finite number");
  if (scores) choose<double>(scale, flags.scale, metadata, "scale");
  if (scores) choose<double>(softcap, flags.softcap, metadata, "softcap");
  if (scores && flags.alibi) alibi = {*flags.alibi, Origin::kFlag};
  if (const auto text = metadata("alibi"); scores && text && !flags.alibi) alibi = {*text, Origin::kMetadata};
  if (flags.products) products = {*flags.products, Origin::kFlag};  // of this machine: no file says it
  const std::optional<bool> causal_flag = flags.causal      ? std::optional(true)
                                          : flags.no_causal ? std::optional(false)
                                                            : std::nullopt;
  choose<bool>(causal, causal_flag, metadata, "causal");
  choose<std::int64_t>(query_offset, flags.query_offset, metadata, "query_offset");
  choose<std::int64_t>(window, flags.window, metadata, "window");
}

void Settings::apply(options& o) const {
  if (scores_ && scale.value) o.scale(*scale.value);
  if (scores_) o.softcap(softcap.value);
  if (scores_) o.products(products.value == "float" ? ATTNGRAPH_PRODUCTS_FLOAT : ATTNGRAPH_PRODUCTS_AUTO);
  o.causal(causal.value).window(window.value);
  if (query_offset.value) o.query_offset(*query_offset.value);
}

std::vector<double> Settings::slopes(std::int64_t heads) const {
  if (alibi.value == "none") return {};
  if (alibi.value == "standard") return alibi_slopes(heads);
  const char* const source = alibi.origin == Origin::kFlag ? "--alibi" : "metadata 'alibi'";
  std::vector<double> given;
  try {
    given = parse_numbers(source, alibi.value);
  } catch (const UsageError& e) {
    throw UsageError(fmt::format("{}, standard or none", e.what()));
  }
  if (static_cast<std::int64_t>(given.size()) != heads) {
    throw error(ATTNGRAPH_ERROR_SHAPE,
                fmt::format("{} has {} slopes, and there are {} query heads; give one for each, or standard", source,
                            given.size(), heads));
  }
  return given;
}

std::string Settings::causal_text() const {
  if (!scores_ && !causal.value) return "";
  const char* const word = causal.value ? "causal" : "not causal";
  switch (causal.origin) {
    case Origin::kFlag: return word;
    case Origin::kMetadata: return fmt::format("{} (as the file says)", word);
    case Origin::kDefault: return fmt::format("{} (the default; --no-causal: every query sees every key)", word);
  }
  return word;
}

std::vector<Explanation> Settings::explain(std::int64_t queries, std::int64_t keys) const {
  std::vector<Explanation> lines;
  if (scores_) {
    lines.push_back({"scale", scale.value ? shortest(*scale.value) : "1/sqrt(D)", origin_name(scale.origin)});
    lines.push_back({"softcap", softcap.value == 0 ? "none" : shortest(softcap.value), origin_name(softcap.origin)});
    lines.push_back({"alibi", alibi.value, origin_name(alibi.origin)});
    lines.push_back({"products", products.value, origin_name(products.origin)});
  }
  lines.push_back({"causal", causal.value ? "yes" : "no: every query sees every key", origin_name(causal.origin)});
  lines.push_back({"query offset",
                   query_offset.value ? fmt::format("{}", *query_offset.value)
                                      : fmt::format("{} (bottom-right: Nk - Nq)", keys - queries),
                   origin_name(query_offset.origin)});
  lines.push_back({"window", window.value == 0 ? "none" : grouped(window.value), origin_name(window.origin)});
  return lines;
}

}  // namespace attngraph::cli
