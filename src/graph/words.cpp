// SPDX-License-Identifier: Apache-2.0
#include "words.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>

namespace ag {
namespace {

// White space, and what tokenizers write for it: "Ġ", "Ċ", "▁".
constexpr std::array<std::string_view, 9> kSpaces = {" ", "\n", "\t", "\r", "\v", "\f", "\u0120", "\u010A", "\u2581"};

std::size_t space_at_front(std::string_view text) {
  for (const std::string_view space : kSpaces)
    if (text.starts_with(space)) return space.size();
  return 0;
}

std::size_t space_at_back(std::string_view text) {
  for (const std::string_view space : kSpaces)
    if (text.ends_with(space)) return space.size();
  return 0;
}

bool is_special(std::string_view text) {
  if (text.size() < 3) return false;
  const std::string_view inner = text.substr(1, text.size() - 2);
  if (text.front() == '<' && text.back() == '>') return inner.find_first_of("<> ") == std::string_view::npos;
  const auto capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  return text.front() == '[' && text.back() == ']' && std::all_of(inner.begin(), inner.end(), capital);
}

// One code point of UTF-8 at the front; size 0 when there is none.
struct CodePoint {
  std::uint32_t value = 0;
  std::size_t size = 0;
};

CodePoint code_point(std::string_view text) {
  if (text.empty()) return {};
  const auto byte = [&](std::size_t n) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[n])); };
  const std::uint32_t lead = byte(0);
  const std::size_t size = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
  if (size == 0 || size > text.size()) return {};
  std::uint32_t value = size == 1 ? lead : lead & (0xFFU >> (size + 1));
  for (std::size_t n = 1; n < size; ++n) {
    if (byte(n) >> 6 != 2) return {};
    value = value << 6 | (byte(n) & 0x3F);
  }
  return {value, size};
}

// ASCII and Latin-1 punctuation, general punctuation, and that of Chinese, Japanese and Korean texts.
bool is_mark(std::uint32_t c) {
  const auto within = [c](std::uint32_t first, std::uint32_t last) { return c >= first && c <= last; };
  return within(0x21, 0x2F) || within(0x3A, 0x40) || within(0x5B, 0x60) || within(0x7B, 0x7E) || c == 0xA1 ||
         c == 0xA7 || c == 0xAB || c == 0xB6 || c == 0xB7 || c == 0xBB || c == 0xBF || within(0x2010, 0x2027) ||
         within(0x2030, 0x205E) || within(0x3001, 0x3003) || within(0x3008, 0x3011) || within(0xFF01, 0xFF0F) ||
         within(0xFF1A, 0xFF20);
}

}  // namespace

std::string_view stripped(std::string_view text) {
  while (const std::size_t size = space_at_front(text)) text.remove_prefix(size);
  while (const std::size_t size = space_at_back(text)) text.remove_suffix(size);
  return text;
}

bool is_punctuation(std::string_view token) {
  std::string_view text = stripped(token);
  if (text.empty() || is_special(text)) return false;
  while (!text.empty()) {
    const CodePoint c = code_point(text);
    if (c.size == 0 || !is_mark(c.value)) return false;
    text.remove_prefix(c.size);
  }
  return true;
}

std::vector<std::int64_t> words_of(std::span<const std::string> tokens) {
  const bool continued = std::any_of(tokens.begin(), tokens.end(),
                                     [](const std::string& t) { return t.starts_with("##") && t.size() > 2; });
  const bool spaced = std::any_of(tokens.begin(), tokens.end(), [](const std::string& t) {
    return !stripped(t).empty() && (space_at_front(t) > 0 || space_at_back(t) > 0);
  });
  std::vector<std::int64_t> words;
  words.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string& token = tokens[i];
    bool begins = i == 0 || is_special(token) || is_special(tokens[i - 1]);
    if (!begins && continued) {
      begins = !(token.starts_with("##") && token.size() > 2);
    } else if (!begins) {
      begins = !spaced || space_at_front(token) > 0 || space_at_back(tokens[i - 1]) > 0;
    }
    words.push_back(words.empty() ? 0 : words.back() + (begins ? 1 : 0));
  }
  return words;
}

std::vector<std::int64_t> ids_of(std::span<const std::string> tokens) {
  std::unordered_map<std::string_view, std::int64_t> known;
  std::vector<std::int64_t> ids;
  ids.reserve(tokens.size());
  for (const std::string& token : tokens)
    ids.push_back(known.emplace(token, static_cast<std::int64_t>(known.size())).first->second);
  return ids;
}

}  // namespace ag
