// SPDX-License-Identifier: Apache-2.0
// Text that nobody promised anything about (tokens, names, paths) on its way into messages and files.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ag {

struct CodePoint {
  char32_t value = 0;  // kNoCodePoint: the byte at this place begins no valid sequence
  std::size_t length = 1;
};
inline constexpr char32_t kNoCodePoint = 0xFFFFFFFF;

// Strict UTF-8 at text[at], at < text.size(): no overlong forms, no surrogates, nothing beyond U+10FFFF.
CodePoint decode_utf8(std::string_view text, std::size_t at);
bool is_utf8(std::string_view text);

// A name or path for an error message: 'quoted', one line, nothing that a terminal would act on, shortened when long.
std::string in_quotes(std::string_view text, std::size_t max_bytes = 200);

// A JSON string with its quotes. Control and direction characters are written as \uXXXX, bytes that are no UTF-8 become
// U+FFFD.
void append_json(std::string& out, std::string_view text);

// A CSV cell with RFC 4180 quotes where needed. raw: the bytes as they are. Otherwise a line end is written as \n or
// \r, so that a record stays one line, bytes that are no UTF-8 and control characters become U+FFFD, and a cell that a
// spreadsheet would run (= + - @ tab CR) begins with '.
void append_csv(std::string& out, std::string_view text, bool raw);

// XML character data or attribute. Code points that XML 1.0 forbids become U+FFFD.
void append_xml(std::string& out, std::string_view text);

// A double-quoted DOT string that is shown as it stands: no escape and no entity of the token is interpreted.
void append_dot(std::string& out, std::string_view text);

}  // namespace ag
