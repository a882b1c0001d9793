// SPDX-License-Identifier: Apache-2.0
#include "escape.hpp"

#include <fmt/format.h>

#include <iterator>

namespace ag {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

bool is_control(char32_t c) { return c < 0x20 || (c >= 0x7F && c < 0xA0); }

// Marks that reorder or hide what stands around them, line separators, byte order mark and noncharacters.
bool is_invisible(char32_t c) {
  return c == 0x061C || (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) ||
         c == 0xFEFF || (c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF);
}

void append_json_unit(std::string& out, char32_t unit) {
  fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<std::uint32_t>(unit));
}

// "&lt;" and the like, which Graphviz would turn into a character.
bool begins_entity(std::string_view text) {
  std::size_t n = 1;
  while (n < text.size() && n < 32) {
    const char c = text[n];
    if (c == ';') return n > 1;
    const bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '#';
    if (!word) return false;
    ++n;
  }
  return false;
}

}  // namespace

CodePoint decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t n) { return static_cast<unsigned char>(text[at + n]); };
  const unsigned first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() - at < length) return {kNoCodePoint, 1};
  char32_t value = first & (0xFFu >> (length + 1));
  for (std::size_t n = 1; n < length; ++n) {
    if ((byte(n) & 0xC0) != 0x80) return {kNoCodePoint, 1};
    value = (value << 6) | (byte(n) & 0x3Fu);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || (value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF) return {kNoCodePoint, 1};
  return {value, length};
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    if (c.value == kNoCodePoint) return false;
    at += c.length;
  }
  return true;
}

std::string in_quotes(std::string_view text, std::size_t max_bytes) {
  std::string out = "'";
  for (std::size_t at = 0; at < text.size();) {
    if (at >= max_bytes) {
      out += "...";
      break;
    }
    const CodePoint c = decode_utf8(text, at);
    if (c.value == kNoCodePoint || is_control(c.value) || is_invisible(c.value)) {
      out += '?';
    } else {
      out += text.substr(at, c.length);
    }
    at += c.length;
  }
  return out += '\'';
}

void append_json(std::string& out, std::string_view text) {
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    if (c.value == kNoCodePoint) {
      out += kReplacement;
    } else if (c.value == '"' || c.value == '\\') {
      out += '\\';
      out += text[at];
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (is_control(c.value) || is_invisible(c.value)) {
      if (c.value >= 0x10000) {
        append_json_unit(out, 0xD7C0u + (c.value >> 10));
        append_json_unit(out, 0xDC00u + (c.value & 0x3FF));
      } else {
        append_json_unit(out, c.value);
      }
    } else {
      out += text.substr(at, c.length);
    }
    at += c.length;
  }
  out += '"';
}

void append_csv(std::string& out, std::string_view text, bool raw) {
  std::string cell;
  if (raw) {
    cell = text;
  } else {
    if (!text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos) cell += '\'';
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint c = decode_utf8(text, at);
      if (c.value == '\n') {
        cell += "\\n";
      } else if (c.value == '\r') {
        cell += "\\r";
      } else if (c.value == kNoCodePoint || (is_control(c.value) && c.value != '\t') || is_invisible(c.value)) {
        cell += kReplacement;
      } else {
        cell += text.substr(at, c.length);
      }
      at += c.length;
    }
  }
  // A cell of spaces only, or with spaces at an end, is quoted too: many readers would trim it.
  const bool spaced = !cell.empty() && (cell.front() == ' ' || cell.back() == ' ');
  if (!spaced && cell.find_first_of(std::string_view("\",\r\n\0", 5)) == std::string::npos) {
    out += cell;
    return;
  }
  out += '"';
  for (const char c : cell) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

void append_xml(std::string& out, std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    const bool blank = c.value == '\t' || c.value == '\n' || c.value == '\r';
    if (c.value == '&') {
      out += "&amp;";
    } else if (c.value == '<') {
      out += "&lt;";
    } else if (c.value == '>') {
      out += "&gt;";
    } else if (c.value == '"') {
      out += "&quot;";
    } else if (c.value == '\'') {
      out += "&apos;";
    } else if (c.value == kNoCodePoint || (c.value < 0x20 && !blank) || (c.value & 0xFFFE) == 0xFFFE) {
      out += kReplacement;
    } else if (is_control(c.value) || is_invisible(c.value)) {
      fmt::format_to(std::back_inserter(out), "&#x{:X};", static_cast<std::uint32_t>(c.value));
    } else {
      out += text.substr(at, c.length);
    }
    at += c.length;
  }
}

void append_dot(std::string& out, std::string_view text) {
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    if (c.value == '\\') {
      out += "\\\\";
    } else if (c.value == '"') {
      out += "\\\"";
    } else if (c.value == '\n') {
      out += "\\\\n";  // shown as \n: a line break would leave an empty label
    } else if (c.value == '\t') {
      out += "\\\\t";
    } else if (c.value == '\r') {
      out += "\\\\r";
    } else if (c.value == '&' && begins_entity(text.substr(at))) {
      out += "&amp;";
    } else if (c.value == kNoCodePoint || is_control(c.value) || is_invisible(c.value)) {
      out += kReplacement;
    } else {
      out += text.substr(at, c.length);
    }
    at += c.length;
  }
  out += '"';
}

}  // namespace ag
