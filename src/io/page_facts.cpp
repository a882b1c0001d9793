// SPDX-License-Identifier: Apache-2.0
#include "page_facts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "../graph/bins.hpp"
#include "../graph/heads.hpp"
#include "../graph/operations.hpp"
#include "../graph/threshold_fact.hpp"
#include "escape.hpp"
#include "graph_file.hpp"

namespace ag {
namespace {

constexpr std::size_t kMostWordBytes = 400;  // more of a token nobody reads in a picture
constexpr std::size_t kMostFactBytes = 2000;

std::string json_number(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "null";
}
std::string json_weight(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; }

// A word as a JSON string, cut at a whole code point.
void append_word(std::string& out, std::string_view word) {
  if (word.size() <= kMostWordBytes) return append_json(out, word);
  std::size_t end = kMostWordBytes;
  while (end > kMostWordBytes - 4 && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80) --end;
  append_json(out, fmt::format("{}\u2026", word.substr(0, end)));
}

void append_words(std::string& out, const std::vector<std::string>& words) {
  out += '[';
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += ',';
    append_word(out, words[i]);
  }
  out += ']';
}

// One list for all sequences, or one for each.
void append_lists(std::string& out, const Labels& labels) {
  out += '[';
  for (std::size_t i = 0; i < labels.lists.size(); ++i) {
    if (i > 0) out += ',';
    append_words(out, labels.lists[i]);
  }
  out += ']';
}

// Text between script tags: nothing in it may look like markup.
std::string without_markup(std::string json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    if (c == '<' || c == '>' || c == '&')
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      out += c;
  }
  return out;
}

std::int64_t rows_with_keys(const EdgeList& graph, const Slice& slice) {
  std::int64_t count = 0;
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    const auto row = static_cast<std::size_t>(slice.first_row + r);
    const auto at = static_cast<std::size_t>(slice.first_offset + r);
    count += has_keys(graph.rows.maximum[row], graph.rows.max_key[row], graph.offsets[at + 1] - graph.offsets[at]);
  }
  return count;
}

std::string slice_json(const EdgeList& graph, const Slice& slice, const EdgeBlock& block) {
  const SliceInfo& info = slice.info;
  std::string out = fmt::format(
      R"({{"batch":{},"layer":{},"head":{},"queryBegin":{},"queries":{},"keys":{},"edges":{},"rowsWithKeys":{},)",
      info.id.batch, info.id.layer, info.id.head, info.query_begin, info.query_count, info.key_count, slice.edge_count,
      rows_with_keys(graph, slice));
  fmt::format_to(std::back_inserter(out), R"("log":{},"low":{},"high":{},"sizes":[{}]}})", block.scale.logarithmic,
                 json_weight(block.scale.low), json_weight(block.scale.high), fmt::join(block.sizes, ","));
  return out;
}

// Queries are another text than the keys: said so, by words of their own, or because they do not stand among the keys.
bool two_texts(const EdgeList& graph) {
  const std::int64_t offset = query_offset(graph.metadata);
  std::int64_t first = 0, last = 0, keys = 0;
  for (const Slice& slice : graph.slices) {
    const SliceInfo& info = slice.info;
    if (info.query_count == 0) continue;
    first = std::min(first, position_of(info.query_begin, offset));
    last = std::max(last, position_of(info.query_begin + info.query_count, offset));
    keys = std::max(keys, info.key_count);
  }
  return graph.metadata.two_sided() || first < 0 || last > keys;
}

}  // namespace

std::vector<HeadColumn> head_columns(const EdgeList& graph) {
  constexpr std::size_t kColumns = 11;
  std::vector<HeadColumn> columns = {
      {"edges", "edges", "edges of the head", 0, false, {}},
      {"kept", "kept", "attention that the edges hold, mean over the queries", 1, true, {}},
      {"entropy", "entropy", "of a query's attention, mean, in nats", 2, false, {}},
      {"distance", "distance", "from query back to key, mean, weighted", 1, false, {}},
      {"self", "itself", "share of the weight on the query's own position", 1, true, {}},
      {"previous", "before", "share of the weight on the position before", 1, true, {}},
      {"first", "first", "share of the weight on the first key: a sink", 1, true, {}},
      {"heaviest", "heaviest", "the heaviest edge", 3, false, {}},
      {"induction", "induction", "of all attention, on the key after an earlier copy of the query", 1, true, {}},
      {"duplicate", "copies", "of all attention, on other copies of the query's token", 1, true, {}},
      {"punctuation", "punctuation", "of all attention, on keys that are punctuation", 1, true, {}}};
  constexpr std::int64_t kAnyWindow = 1;  // none of the figures shown depends on it
  const std::vector<HeadFigures> all = heads(graph, kAnyWindow);
  for (std::size_t i = 0; i < graph.slices.size(); ++i) {
    const Summary s = summarise(graph, i);
    const double figures[] = {static_cast<double>(s.edges),
                              s.kept_mass_mean,
                              s.entropy_mean,
                              s.mean_distance,
                              s.self_share,
                              s.previous_share,
                              s.first_share,
                              s.weight_max,
                              all[i].induction_share,
                              all[i].duplicate_share,
                              all[i].punctuation_share};
    static_assert(std::size(figures) == kColumns);
    for (std::size_t c = 0; c < columns.size(); ++c) columns[c].figures.push_back(figures[c]);
  }
  // What no head knows is no column.
  std::erase_if(columns, [](const HeadColumn& column) {
    return std::all_of(column.figures.begin(), column.figures.end(), [](double x) { return std::isnan(x); });
  });
  return columns;
}

Thumbnails thumbnails(const EdgeList& graph) {
  Thumbnails out;
  out.side = graph.slices.size() > 2000 ? 24 : graph.slices.size() > 400 ? 36 : 56;
  for (const Slice& slice : graph.slices)
    if (slice.edge_count > 0) out.high = std::max(out.high, weight_scale(graph, slice).high);
  std::string bytes;
  std::vector<double> cells;
  for (const Slice& slice : graph.slices) {
    const SliceInfo& info = slice.info;
    const std::int64_t rows = std::min(out.side, info.query_count), columns = std::min(out.side, info.key_count);
    if (rows == 0 || columns == 0) continue;
    cells.resize(static_cast<std::size_t>(rows * columns));
    for (const BinValue value : {BinValue::kMax, BinValue::kSum}) {
      bin_edges(graph, slice, {.rows = rows, .columns = columns, .value = value}, cells);
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto queries = static_cast<double>(first_in_cell(r + 1, info.query_count, rows) -
                                                 first_in_cell(r, info.query_count, rows));
        for (std::int64_t c = 0; c < columns; ++c) {
          const double cell =
              cells[static_cast<std::size_t>(r * columns + c)] / (value == BinValue::kMax ? 1 : queries);
          const double code = std::ceil(255 * std::sqrt(std::max(0.0, cell) / out.high));
          bytes += static_cast<char>(static_cast<unsigned char>(std::min(255.0, code)));
        }
      }
    }
  }
  out.text = base64(deflated(bytes));
  return out;
}

std::string words_block(const Metadata& metadata) {
  std::string json = "{\"keys\":";
  append_lists(json, metadata.tokens);
  json += ",\"queries\":";
  append_lists(json, metadata.query_tokens);
  json += '}';
  return base64(deflated(json));
}

std::string page_name(const EdgeList& graph) {
  const auto model = graph.metadata.facts.find("model");
  return model != graph.metadata.facts.end() && !model->second.empty() ? model->second.substr(0, 120)
                                                                       : "Attention graph";
}

std::string page_title(const EdgeList& graph) {
  std::int64_t tokens = 0;
  for (const Slice& slice : graph.slices) tokens = std::max(tokens, slice.info.key_count);
  return fmt::format("{}: {} {}, {} keys", page_name(graph), graph.slices.size(),
                     graph.slices.size() == 1 ? "head" : "heads", tokens);
}

std::string page_json(const EdgeList& graph, const std::vector<EdgeBlock>& blocks, const Thumbnails& pictures) {
  std::string out = R"({"version":1,"title":)";
  append_json(out, page_title(graph));
  fmt::format_to(std::back_inserter(out), R"(,"twoTexts":{},"queryOffset":{},"threshold":{},"keptMass":{},"facts":{{)",
                 two_texts(graph), two_texts(graph) ? 0 : query_offset(graph.metadata),
                 json_weight(threshold_fact(graph.metadata).value_or(0)),
                 json_number(summarise(graph, std::nullopt).kept_mass_mean, 6));
  bool comma = false;
  for (const auto& [name, value] : graph.metadata.facts) {
    if (comma) out += ',';
    comma = true;
    append_json(out, std::string_view(name).substr(0, kMostFactBytes));
    out += ':';
    append_json(out, std::string_view(value).substr(0, kMostFactBytes));
  }
  out += "},\"columns\":[";
  const std::vector<HeadColumn> columns = head_columns(graph);
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const HeadColumn& column = columns[c];
    fmt::format_to(std::back_inserter(out),
                   R"({}{{"name":"{}","title":"{}","meaning":"{}","digits":{},"share":{},"figures":[)",
                   c > 0 ? "," : "", column.name, column.title, column.meaning, column.digits, column.share);
    for (std::size_t i = 0; i < column.figures.size(); ++i)
      out += (i > 0 ? "," : "") + json_number(column.figures[i], column.digits + (column.share ? 5 : 1));
    out += "]}";
  }
  out += "],\"slices\":[";
  for (std::size_t i = 0; i < graph.slices.size(); ++i)
    out += (i > 0 ? "," : "") + slice_json(graph, graph.slices[i], blocks[i]);
  fmt::format_to(std::back_inserter(out), R"(],"thumbnails":{{"side":{},"high":{}}}}})", pictures.side,
                 json_weight(pictures.high));
  return without_markup(std::move(out));
}

}  // namespace ag
