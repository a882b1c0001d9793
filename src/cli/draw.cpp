// SPDX-License-Identifier: Apache-2.0
#include "draw.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "links.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

constexpr std::int64_t kMostRows = 28;
constexpr std::size_t kLinks = 6;
constexpr std::int64_t kRulerColumns = 24;

// A cell says how much of its queries' attention its keys get.
struct Shade {
  double below;
  const char* glyph;
  int colour;  // of the 256
};
constexpr std::array<Shade, 6> kShades = {
    {{0.002, " ", 0}, {0.02, "·", 60}, {0.10, "░", 67}, {0.25, "▒", 73}, {0.50, "▓", 179}, {2.00, "█", 221}}};

std::int64_t cell_of(std::int64_t p, std::int64_t n, std::int64_t cells) { return p * cells / n; }
std::int64_t first_in(std::int64_t cell, std::int64_t n, std::int64_t cells) { return (cell * n + cells - 1) / cells; }

// Row-major: the share of its queries' attention that a cell's keys get.
std::vector<double> shares_of(const result& graph, std::int64_t index, const slice& s, std::int64_t rows,
                              std::int64_t columns) {
  std::vector<double> shares = graph.bins(index, {.rows = rows, .columns = columns, .value = ATTNGRAPH_BIN_SUM});
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto queries = first_in(r + 1, s.query_count, rows) - first_in(r, s.query_count, rows);
    for (std::int64_t c = 0; c < columns; ++c)
      shares[static_cast<std::size_t>(r * columns + c)] /= static_cast<double>(queries);
  }
  // The rows of a ready matrix may sum to anything.
  const double most = shares.empty() ? 0 : *std::max_element(shares.begin(), shares.end());
  if (most > 1.001)
    for (double& share : shares) share /= most;
  return shares;
}

std::string painted(double share, int repeat, bool colour) {
  const auto shade = std::find_if(kShades.begin(), kShades.end() - 1, [&](const Shade& s) { return share < s.below; });
  std::string glyphs;
  for (int i = 0; i < repeat; ++i) glyphs += shade->glyph;
  return colour && shade->colour != 0 ? fmt::format("\033[38;5;{}m{}\033[0m", shade->colour, glyphs) : glyphs;
}

std::string padded(const std::string& text, std::size_t width) {
  const std::size_t used = display_width(text);
  return std::string(width - std::min(used, width), ' ') + text;
}

std::string draw_map(const result& graph, std::int64_t index, const slice& s, int width, bool colour) {
  // With a row to each query there is room for its word, with fewer rows only for a position.
  const bool words = graph.label(ATTNGRAPH_QUERIES, s.batch, s.query_begin) && s.query_count <= kMostRows;
  constexpr std::size_t kWordColumns = 14;
  const std::size_t margin =
      words ? kWordColumns : std::max<std::size_t>(5, std::to_string(s.query_begin + s.query_count).size());
  const std::int64_t room = std::max<std::int64_t>(8, width - static_cast<std::int64_t>(margin) - 3);
  const std::int64_t columns = std::min(s.key_count, room);
  const int repeat = s.key_count * 2 <= room ? 2 : 1;
  // A character is twice as high as wide.
  const std::int64_t square = std::max<std::int64_t>(4, columns * repeat * s.query_count / (2 * s.key_count));
  const std::int64_t rows = std::min({s.query_count, kMostRows, words ? kMostRows : square});
  const std::vector<double> shares = shares_of(graph, index, s, rows, columns);

  std::string out;
  std::string rule;
  for (std::int64_t c = 0; c < columns * repeat; ++c) rule += "─";
  const std::string indent(margin + 1, ' ');
  out += indent + "┌" + rule + "┐\n";
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t query = s.query_begin + first_in(r, s.query_count, rows);
    const auto token = graph.label(ATTNGRAPH_QUERIES, s.batch, query);
    out += padded(words && token ? quoted_token(*token, kWordColumns - 3) : fmt::format("{}", query), margin) + " │";
    for (std::int64_t c = 0; c < columns; ++c)
      out += painted(shares[static_cast<std::size_t>(r * columns + c)], repeat, colour);
    out += "│\n";
  }
  out += indent + "└" + rule + "┘\n";
  const std::string last = fmt::format("{}", s.key_count - 1);
  const auto span = static_cast<std::size_t>(columns * repeat);
  out += indent + " 0" + (span > last.size() + 1 ? padded(last, span - 1) : "") + "\n";
  out += fmt::format(
      "{}queries down, keys across; a cell of {}x{}: mean attention  · <2 %  ░ <10 %  ▒ <25 %  ▓ <50 %  █\n",
      std::string(2, ' '), (s.query_count + rows - 1) / rows, (s.key_count + columns - 1) / columns);
  return out;
}

// "   ◂━━━━●   ": from the query's place to the key's, on a line that stands for all positions.
std::string ruler(const edge& link, std::int64_t offset, std::int64_t positions) {
  const std::int64_t columns = std::min(kRulerColumns, positions);
  const std::int64_t query = cell_of(std::max<std::int64_t>(0, link.query + offset), positions, columns),
                     key = cell_of(link.key, positions, columns);
  std::string out;
  for (std::int64_t c = 0; c < columns; ++c) {
    const bool between = c > std::min(query, key) && c < std::max(query, key);
    out += c == query ? "●" : c == key ? (key < query ? "◂" : "▸") : between ? "━" : "·";
  }
  return out;
}

}  // namespace

std::string draw_head(const result& graph, std::int64_t index, int width, bool colour) {
  const slice s = graph.slice(index);
  const summary figures = graph.summary(index);
  std::string out = fmt::format("layer {} head {}: {} queries, {} keys, {} edges; {} of the attention kept\n", s.layer,
                                s.head, grouped(s.query_count), grouped(s.key_count), grouped(figures.edges),
                                percent(figures.kept_mass_mean));
  if (s.query_count == 0 || s.key_count == 0) return out;
  if (figures.edges > 0 && !graph.two_sided())
    out += fmt::format("of it: {} on the query itself, {} on the one before, {} on the first\n",
                       percent(figures.self_share), percent(figures.previous_share), percent(figures.first_share));
  out += draw_map(graph, index, s, width, colour);
  const std::int64_t offset = graph.two_sided() ? 0 : graph.query_offset();
  std::vector<edge> links;
  add_links(s, own_position(graph), kLinks, links);
  if (!links.empty())
    out += graph.two_sided() ? "strongest links between words (not to the first):\n"
                             : "strongest links between words (neither to itself nor to the first):\n";
  const std::int64_t positions = std::max(s.query_begin + s.query_count + offset, s.key_count);
  for (const edge& link : links) {
    const auto asking = graph.label(ATTNGRAPH_QUERIES, s.batch, link.query);
    const auto asked = graph.label(ATTNGRAPH_KEYS, s.batch, link.key);
    out += fmt::format("  {:.3f}  {}  {} {} → {} {}\n", link.weight, ruler(link, offset, positions),
                       word(asking, link.query), asking ? fmt::format("({})", link.query) : "", word(asked, link.key),
                       asked ? fmt::format("({})", link.key) : "");
  }
  return out;
}

}  // namespace attngraph::cli
