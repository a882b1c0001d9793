// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string_view>

#include "graph_file.hpp"
#include "input_file.hpp"
#include "json_text.hpp"
#include "tokens.hpp"

namespace ag {
namespace {

void check_token(const std::string& token, std::size_t index, const std::string& where, std::uint64_t byte) {
  if (token.size() > kMaxTokenBytes) {
    fail_at(Status::kLimit, where, byte, "token {} has {} bytes; the limit is {}", index, token.size(), kMaxTokenBytes);
  }
  if (index >= kMaxTokens) fail_at(Status::kLimit, where, byte, "there are more than {} tokens", kMaxTokens);
}

class TokenReader : public JsonVisitor {
 public:
  std::vector<std::string> tokens;

 private:
  void opened() override {
    if (nesting() == "[") return;
    if (nesting() != "[[") refuse();
    add({});  // its bytes follow
  }
  void scalar(Json value) override {
    if (nesting() == "[" && value.is_string()) {
      add(std::move(value.get_ref<std::string&>()));
    } else if (nesting() == "[[" && value.is_number_unsigned() && value <= 255u) {
      tokens.back() += static_cast<char>(value.get<unsigned char>());
      check_token(tokens.back(), tokens.size() - 1, where(), offset());
    } else {
      refuse();
    }
  }
  void add(std::string token) {
    check_token(token, tokens.size(), where(), offset());
    tokens.push_back(std::move(token));
  }
  [[noreturn]] void refuse() const {
    bad("tokens are one JSON list of strings; bytes that are no UTF-8 are a list of numbers from 0 to 255");
  }
};

std::vector<std::string> parse_lines(std::string_view text, const std::string& where) {
  std::vector<std::string> tokens;
  bool all_cr = !text.empty();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    tokens.emplace_back(text.substr(at, end - at));
    check_token(tokens.back(), tokens.size() - 1, where, at);
    all_cr = all_cr && end < text.size() && tokens.back().ends_with('\r');
    at = end + 1;
  }
  // Lines that all end in CR LF come from another system; a single CR is part of its token.
  if (all_cr) {
    for (std::string& token : tokens) token.pop_back();
  }
  return tokens;
}

// A text file may well begin with the token "[" or "[CLS]": a list has a string or its end after the bracket.
bool is_json_list(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t bracket = text.find_first_not_of(kBlanks);
  if (bracket == std::string_view::npos || text[bracket] != '[') return false;
  const std::size_t next = text.find_first_not_of(kBlanks, bracket + 1);
  if (next == std::string_view::npos) return false;
  if (text[next] == ']') return text.find_first_not_of(kBlanks, next + 1) == std::string_view::npos;
  return text[next] == '"';
}

}  // namespace

std::vector<std::string> parse_tokens_json(const std::string& json, const std::string& where) {
  TokenReader reader;
  reader.parse(json, where);
  return std::move(reader.tokens);
}

std::vector<std::string> read_tokens(const std::string& path) {
  const InputFile file(path);
  if (file.size() > kMaxTokenFile) {
    fail(Status::kLimit, "{}: a token file of {} bytes; the limit is {}", file.name(), file.size(), kMaxTokenFile);
  }
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, text.data(), text.size(), "the tokens");
  if (path.ends_with(".json") || is_json_list(text)) return parse_tokens_json(text, file.name());
  return parse_lines(text, file.name());
}

}  // namespace ag
