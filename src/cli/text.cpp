// SPDX-License-Identifier: Apache-2.0
#include "text.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace attngraph::cli {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

// The code point at the front of `text`, which is shortened by it. A byte that begins no valid sequence is U+FFFD.
char32_t next_code_point(std::string_view& text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xC2 && lead < 0xE0 ? 2
                             : lead >= 0xE0 && lead < 0xF0 ? 3
                             : lead >= 0xF0 && lead < 0xF5 ? 4
                                                           : 0;
  char32_t code = length == 1 ? lead : length == 0 ? kReplacement : lead & (0xFFu >> (length + 1));
  bool valid = length != 0 && length <= text.size();
  for (std::size_t i = 1; valid && i < length; ++i) {
    valid = (byte(i) & 0xC0) == 0x80;
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  valid = valid && code >= kSmallest[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
  text.remove_prefix(valid ? length : 1);
  return valid ? code : kReplacement;
}

void append(std::string& out, char32_t c) {
  const auto put = [&](char32_t bits) { out += static_cast<char>(static_cast<unsigned char>(bits)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool in(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

// C0, DEL, C1; bidirectional marks, embeddings, overrides and isolates; line and paragraph separators.
bool drives_terminal(char32_t c) {
  return c < 0x20 || in(c, 0x7F, 0x9F) || c == 0x061C || c == 0x200E || c == 0x200F || in(c, 0x2028, 0x202E) ||
         in(c, 0x2066, 0x2069) || in(c, 0xFFF9, 0xFFFB);
}

std::size_t width_of(char32_t c) {
  if (in(c, 0x0300, 0x036F) || in(c, 0x200B, 0x200D) || in(c, 0x20D0, 0x20FF) || in(c, 0xFE00, 0xFE0F)) return 0;
  const bool wide = in(c, 0x1100, 0x115F) || in(c, 0x2E80, 0xA4CF) || in(c, 0xAC00, 0xD7A3) || in(c, 0xF900, 0xFAFF) ||
                    in(c, 0xFE30, 0xFE6F) || in(c, 0xFF00, 0xFF60) || in(c, 0xFFE0, 0xFFE6) ||
                    in(c, 0x1F300, 0x1F64F) || in(c, 0x1F900, 0x1F9FF) || in(c, 0x20000, 0x3FFFD);
  return wide ? 2 : 1;
}

}  // namespace

std::string sanitised(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const bool space = text[0] == '\n' || text[0] == '\t' || text[0] == '\r';
    const char32_t c = next_code_point(text);
    if (space)
      out += ' ';
    else if (!drives_terminal(c))
      append(out, c);
  }
  return out;
}

std::string quoted_token(std::string_view token, std::size_t limit) {
  std::string out = "\"";
  std::size_t width = 0;
  while (!token.empty()) {
    const char32_t c = next_code_point(token);
    const std::string_view escape = c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : c == '"' ? "\\\"" : "";
    if (escape.empty() && drives_terminal(c)) continue;
    const std::size_t columns = escape.empty() ? width_of(c) : escape.size();
    if (width + columns > limit) {
      out += "…";
      break;
    }
    width += columns;
    if (escape.empty())
      append(out, c);
    else
      out += escape;
  }
  return out + '"';
}

std::string word(const std::optional<std::string_view>& token, std::int64_t position) {
  return token ? quoted_token(*token) : fmt::format("{}", position);
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) width += width_of(next_code_point(text));
  return width;
}

std::string grouped(std::int64_t n) {
  std::string digits = fmt::format("{}", n);
  const std::size_t first = n < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string percent(double share) { return std::isnan(share) ? "-" : fmt::format("{:.1f} %", 100 * share); }

std::string shortest(double value) { return std::isnan(value) ? "-" : fmt::format("{}", value); }

std::string weight_text(double weight) {
  const auto single = static_cast<float>(weight);
  return static_cast<double>(single) == weight ? fmt::format("{}", single) : shortest(weight);
}

std::string bytes(std::uint64_t count) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(count);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string seconds(double elapsed) { return fmt::format("{:.{}f} s", elapsed, elapsed < 10 ? 2 : 1); }

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string numbers(const std::vector<std::int64_t>& values) { return fmt::format("{}", fmt::join(values, ", ")); }

}  // namespace attngraph::cli
