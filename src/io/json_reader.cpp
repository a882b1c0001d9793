// SPDX-License-Identifier: Apache-2.0
#include "json_reader.hpp"

#include <charconv>
#include <limits>
#include <vector>

#include "escape.hpp"

namespace ag {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

char JsonReader::peek() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
    ++at_;
  }
  return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonReader::take(char c) {
  if (peek() != c || at_ == text_.size()) return false;
  ++at_;
  return true;
}

void JsonReader::expect(char c) {
  if (take(c)) return;
  if (at_ == text_.size()) bad(offset(), "the JSON text ends where '{}' should stand", c);
  bad(offset(), "JSON: '{}' expected, found {}", c, in_quotes(text_.substr(at_, 1)));
}

bool JsonReader::more(char close, bool& first) {
  if (take(close)) return false;
  if (!first) expect(',');
  first = false;
  return true;
}

char32_t JsonReader::hex4() {
  char32_t value = 0;
  for (int n = 0; n < 4; ++n, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    const int digit = is_digit(c)            ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) bad(offset(), "JSON: \\u needs four hexadecimal digits");
    value = value * 16 + static_cast<char32_t>(digit);
  }
  return value;
}

std::string JsonReader::read_string(bool bytes) {
  expect('"');
  std::string out;
  while (true) {
    if (at_ == text_.size()) bad(offset(), "JSON: the text ends inside a string");
    const char c = text_[at_];
    if (c == '"') {
      ++at_;
      return out;
    }
    if (static_cast<unsigned char>(c) < 0x20) bad(offset(), "JSON: a control character inside a string");
    if (c != '\\') {
      const CodePoint point = decode_utf8(text_, at_);
      if (point.value == kNoCodePoint && !bytes) bad(offset(), "JSON: a string is not valid UTF-8");
      out += text_.substr(at_, point.length);
      at_ += point.length;
      continue;
    }
    const std::uint64_t escape = offset();
    ++at_;
    const char kind = at_ < text_.size() ? text_[at_++] : '\0';
    switch (kind) {
      case '"':
      case '\\':
      case '/': out += kind; break;
      case 'b': out += '\b'; break;
      case 'f': out += '\f'; break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      case 'u': {
        char32_t value = hex4();
        if (value >= 0xD800 && value < 0xDC00 && text_.substr(at_, 2) == "\\u") {
          const std::size_t before = at_;
          at_ += 2;
          const char32_t low = hex4();
          if (low >= 0xDC00 && low < 0xE000) {
            value = 0x10000 + ((value - 0xD800) << 10) + (low - 0xDC00);
          } else {
            at_ = before;
          }
        }
        const bool lone = value >= 0xD800 && value < 0xE000;
        if (lone && !bytes) bad(escape, "JSON: a lone surrogate in a string");
        if (lone && value >= 0xDC80 && value <= 0xDCFF) {
          out += static_cast<char>(static_cast<unsigned char>(value - 0xDC00));
        } else {
          append_utf8(out, value);
        }
        break;
      }
      default: bad(escape, "JSON: an unknown escape in a string");
    }
  }
}

std::string JsonReader::string() { return read_string(false); }
std::string JsonReader::byte_string() { return read_string(true); }

std::string_view JsonReader::number_token() {
  peek();
  const std::size_t begin = at_;
  const auto digits = [&] {
    const std::size_t first = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return at_ - first;
  };
  const auto next = [&](char a, char b) { return at_ < text_.size() && (text_[at_] == a || text_[at_] == b); };
  if (next('-', '-')) ++at_;
  const bool zero = next('0', '0');
  const std::size_t whole = digits();
  if (whole == 0) bad(offset(), "JSON: a number expected");
  if (zero && whole > 1) bad(base_ + begin, "JSON: a number with a leading zero");
  if (next('.', '.')) {
    ++at_;
    if (digits() == 0) bad(offset(), "JSON: digits expected after the decimal point");
  }
  if (next('e', 'E')) {
    ++at_;
    if (next('+', '-')) ++at_;
    if (digits() == 0) bad(offset(), "JSON: digits expected in the exponent");
  }
  return text_.substr(begin, at_ - begin);
}

std::uint64_t JsonReader::unsigned_integer() {
  const std::string_view token = number_token();
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error != std::errc{} || end != token.data() + token.size()) {
    bad(offset() - token.size(), "{} is not an integer from 0 to 2^64 - 1", in_quotes(token, 40));
  }
  return value;
}

bool JsonReader::take_word(std::string_view word) {
  peek();
  if (text_.substr(at_, word.size()) != word) return false;
  at_ += word.size();
  return true;
}

double JsonReader::number() {
  if (take_word("null")) return std::numeric_limits<double>::quiet_NaN();
  const std::string_view token = number_token();
  double value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error != std::errc{}) bad(offset() - token.size(), "{} is beyond the range of a double", in_quotes(token, 40));
  return value;
}

void JsonReader::skip_value() {
  struct Level {
    char close;
    bool first = true;
  };
  std::vector<Level> open;
  do {
    if (!open.empty()) {
      if (!more(open.back().close, open.back().first)) {
        open.pop_back();
        continue;
      }
      if (open.back().close == '}') {
        string();
        expect(':');
      }
    }
    const char c = peek();
    if (c == '{' || c == '[') {
      if (open.size() == kMaxJsonDepth) bad(offset(), "JSON is nested deeper than {} levels", kMaxJsonDepth);
      ++at_;
      open.push_back({c == '{' ? '}' : ']'});
    } else if (c == '"') {
      string();
    } else if (!take_word("true") && !take_word("false") && !take_word("null")) {
      number_token();
    }
  } while (!open.empty());
}

void JsonReader::end() {
  if (peek() != '\0' || at_ != text_.size()) bad(offset(), "something follows the end of the JSON text");
}

}  // namespace ag
