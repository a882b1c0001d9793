// SPDX-License-Identifier: Apache-2.0
// What GPT-2's and many later tokenizers call a token: its bytes, each as a character that can be seen. Printable bytes
// of Latin-1 stand for themselves, the 68 others are U+0100, U+0101, ... in their order: the space is U+0120.
#include <array>
#include <optional>

#include "escape.hpp"
#include "graph_file.hpp"

namespace ag {
namespace {

constexpr char32_t kFirstOther = 0x100;
constexpr char32_t kSpace = kFirstOther + 0x20;
constexpr char32_t kNewline = kFirstOther + 0x0A;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr auto kOthers = [] {
  std::array<char, 68> bytes{};
  std::size_t n = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (!stands_for_itself(byte)) bytes[n++] = static_cast<char>(byte);
  }
  return bytes;
}();

// The bytes of a token, nothing when a character stands for none. `spaced`: a space or line end was among them.
std::optional<std::string> spelled_out(const std::string& token, bool& spaced) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const CodePoint c = decode_utf8(token, at);
    if (c.value < 0x100 && stands_for_itself(static_cast<unsigned>(c.value))) {
      bytes += static_cast<char>(c.value);
    } else if (c.value >= kFirstOther && c.value < kFirstOther + kOthers.size()) {
      bytes += kOthers[c.value - kFirstOther];
      spaced = spaced || c.value == kSpace || c.value == kNewline;
    } else {
      return std::nullopt;
    }
    at += c.length;
  }
  return bytes;
}

bool is_special(const std::string& token) { return token.starts_with('<') && token.ends_with('>'); }

// A text, but for halves of characters at its ends.
bool is_cut_text(std::string_view text) {
  for (int n = 0; n < 3 && !text.empty() && (text.front() & 0xC0) == 0x80; ++n) text.remove_prefix(1);
  for (std::size_t last = 1; last <= 4 && last <= text.size(); ++last) {
    const auto lead = static_cast<unsigned char>(text[text.size() - last]);
    if ((lead & 0xC0) == 0x80) continue;
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (length > last) text.remove_suffix(last);
    break;
  }
  return is_utf8(text);
}

// The list spelled out; nothing unless all of it reads so, at least one space or line end is in it, and what comes out
// is text. A list that merely holds such a letter (Maltese has one) is no such list.
std::optional<std::vector<std::string>> spelled_out(const std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string text;
  bool spaced = false;
  for (const std::string& token : tokens) {
    std::optional<std::string> bytes = spelled_out(token, spaced);
    if (!bytes && !is_special(token)) return std::nullopt;
    text += bytes.value_or("");
    out.push_back(bytes ? std::move(*bytes) : token);
  }
  return spaced && is_cut_text(text) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace

Labels spelled_out(Labels tokens) {
  for (std::vector<std::string>& list : tokens.lists) {
    if (auto bytes = spelled_out(list)) list = std::move(*bytes);
  }
  return tokens;
}

}  // namespace ag
