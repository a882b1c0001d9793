// SPDX-License-Identifier: Apache-2.0
#include "graph_facts.hpp"

#include <charconv>
#include <iterator>
#include <utility>

#include "../core/error.hpp"
#include "escape.hpp"
#include "graph_file.hpp"
#include "json_text.hpp"

namespace ag {
namespace {

constexpr std::string_view kReportPrefix = "report.";

// One list of the report's fields for both directions.
template <class Report, class Visit>
void visit_report(Report& report, Visit&& visit) {
  visit("eps", report.eps);
  visit("borderline", report.borderline);
  visit("empty_rows", report.empty_rows);
  visit("rows_fp64", report.rows_fp64);
  visit("skipped_nonfinite", report.skipped_nonfinite);
  visit("kept_mass_sum", report.kept_mass_sum);
  visit("rows_with_keys", report.rows_with_keys);
  visit("backend", report.backend);
  visit("target", report.target);
  visit("threads", report.threads);
  visit("rows_decided_again", report.rows_decided_again);
  visit("unresolved", report.unresolved);
}

class FactsReader : public JsonVisitor {
 public:
  Facts facts;

 private:
  void opened() override {
    if (nesting() != "{") refuse();
  }
  void scalar(Json value) override {
    if (nesting() != "{" || !value.is_string()) refuse();
    facts.emplace(name(0), std::move(value.get_ref<std::string&>()));
  }
  [[noreturn]] void refuse() const { bad("facts are one JSON object of strings"); }
};

// Bytes that are no UTF-8 have no place in a JSON string.
void append_token(std::string& list, const std::string& token) {
  if (is_utf8(token)) {
    append_json(list, token);
  } else {
    const std::vector<unsigned char> bytes(token.begin(), token.end());
    fmt::format_to(std::back_inserter(list), "[{}]", fmt::join(bytes, ", "));
  }
}

std::string labels_to_json(const Labels& labels) {
  std::string lists;
  for (const std::vector<std::string>& tokens : labels.lists) {
    if (!lists.empty()) lists += ", ";
    lists += '[';
    for (std::size_t n = 0; n < tokens.size(); ++n) {
      if (n > 0) lists += ", ";
      append_token(lists, tokens[n]);
    }
    lists += ']';
  }
  return labels.lists.size() == 1 ? lists : '[' + lists + ']';
}

void parse(std::string& to, const std::string& text, const std::string&, const std::string&) { to = text; }

template <class T>
void parse(T& to, const std::string& text, const std::string& name, const std::string& where) {
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, to);
  if (error != std::errc{} || last != end || text.empty()) {
    fail(Status::kFormat, "{}: fact {} is {}, which is no number", where, name, in_quotes(text, 40));
  }
}

}  // namespace

Facts facts_to_write(const Metadata& metadata, const RunReport& report) {
  Facts facts = metadata.facts;
  facts.insert_or_assign("format", std::string(kGraphFormatName));
  facts.insert_or_assign("format_version", std::string(kGraphFormatVersion));
  visit_report(report, [&](const char* name, const auto& value) {
    facts[fmt::format("{}{}", kReportPrefix, name)] = fmt::format("{}", value);
  });
  for (const auto& [name, labels] : {std::pair("tokens", &metadata.tokens), {"query_tokens", &metadata.query_tokens}}) {
    facts.erase(name);
    if (!labels->empty()) facts[name] = labels_to_json(*labels);
  }
  return facts;
}

void read_facts(const Facts& facts, const std::string& where, Metadata& metadata, RunReport& report) {
  metadata.facts = facts;
  const auto take = [&](const std::string& name) {
    const auto node = metadata.facts.extract(name);
    return node.empty() ? std::string() : node.mapped();
  };
  if (take("format") != kGraphFormatName) {
    fail(Status::kFormat, "{}: holds no graph: there is no fact format = {}", where, kGraphFormatName);
  }
  const std::string version = take("format_version");
  if (version != kGraphFormatVersion) {
    fail(Status::kUnsupported, "{}: a graph of format version {}; version {} is read", where, in_quotes(version, 40),
         kGraphFormatVersion);
  }
  report.forget_decisions();  // unless the file says
  visit_report(report, [&](const char* name, auto& value) {
    const std::string full = fmt::format("{}{}", kReportPrefix, name);
    if (metadata.facts.contains(full)) parse(value, take(full), full, where);
  });
  for (const auto& [name, labels] : {std::pair("tokens", &metadata.tokens), {"query_tokens", &metadata.query_tokens}}) {
    if (metadata.facts.contains(name)) *labels = parse_tokens_json(take(name), fmt::format("{}, fact {}", where, name));
  }
}

std::string facts_to_json(const Facts& facts) {
  std::string json = "{";
  for (const auto& [name, value] : facts) {
    if (json.size() > 1) json += ", ";
    append_json(json, name);
    json += ": ";
    append_json(json, value);
  }
  json += '}';
  return json;
}

Facts facts_from_json(const std::string& json, const std::string& where) {
  FactsReader reader;
  reader.parse(json, where);
  return std::move(reader.facts);
}

}  // namespace ag
