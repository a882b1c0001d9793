// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <string_view>

#include "graph_file.hpp"
#include "input_file.hpp"
#include "json_text.hpp"
#include "suffix.hpp"
#include "tokens.hpp"

namespace ag {
namespace {

void check_token(const std::string& token, std::size_t index, const std::string& where, std::uint64_t byte) {
  if (token.size() > kMaxTokenBytes) {
    fail_at(Status::kLimit, where, byte, "token {} has {} bytes; the limit is {}", index, token.size(), kMaxTokenBytes);
  }
  if (index >= kMaxTokens) fail_at(Status::kLimit, where, byte, "there are more than {} tokens", kMaxTokens);
}

// One list of tokens, or a list of lists. A token is a string, or a list of the bytes of one that is no UTF-8, so that
// what a list within the outermost is shows only by what it holds.
class TokenReader : public JsonVisitor {
 public:
  Labels labels() {
    if (kind_ == Kind::kSequences) return std::move(labels_);
    if (kind_ == Kind::kUnknown) tokens_.resize(empty_);
    return Labels(std::move(tokens_));
  }

 private:
  enum class Kind { kUnknown, kTokens, kSequences };

  void opened() override {
    if (nesting() == "[") return;
    if (nesting() == "[[") {
      inner_ = Kind::kUnknown;
    } else if (nesting() == "[[[") {
      begin_inner(Kind::kSequences);
      add(labels_.lists.back(), {});  // its bytes follow
    } else {
      refuse();
    }
  }
  void closed() override {
    if (nesting() != "[[" || inner_ != Kind::kUnknown) return;
    if (kind_ == Kind::kTokens) add(tokens_, {});
    if (kind_ == Kind::kSequences) labels_.lists.emplace_back();
    if (kind_ == Kind::kUnknown) ++empty_;
  }
  void scalar(Json value) override {
    const bool byte = value.is_number_unsigned() && value <= 255u;
    if (nesting() == "[" && value.is_string()) {
      become(Kind::kTokens);
      add(tokens_, std::move(value.get_ref<std::string&>()));
    } else if (nesting() == "[[" && value.is_string()) {
      begin_inner(Kind::kSequences);
      add(labels_.lists.back(), std::move(value.get_ref<std::string&>()));
    } else if (nesting() == "[[" && byte) {
      if (begin_inner(Kind::kTokens)) add(tokens_, {});
      extend(tokens_, value);
    } else if (nesting() == "[[[" && byte) {
      extend(labels_.lists.back(), value);
    } else {
      refuse();
    }
  }

  // The outermost list is of this kind; empty lists before it was known are what that makes of them.
  void become(Kind kind) {
    if (kind_ == Kind::kUnknown) {
      kind_ = kind;
      tokens_.resize(kind == Kind::kTokens ? empty_ : 0);
      labels_.lists.resize(kind == Kind::kSequences ? empty_ : 0);
      total_ = tokens_.size();
    }
    if (kind_ != kind) refuse();
  }
  // The list at hand makes the outermost one of this kind. True the first time.
  bool begin_inner(Kind outer) {
    if (inner_ != Kind::kUnknown) {
      if (inner_ != outer) refuse();
      return false;
    }
    become(outer);
    inner_ = outer;
    if (outer == Kind::kSequences) labels_.lists.emplace_back();
    return true;
  }
  void add(std::vector<std::string>& to, std::string token) {
    check_token(token, total_++, where(), offset());
    to.push_back(std::move(token));
  }
  void extend(std::vector<std::string>& tokens, const Json& byte) {
    tokens.back() += static_cast<char>(byte.get<unsigned char>());
    check_token(tokens.back(), total_ - 1, where(), offset());
  }
  [[noreturn]] void refuse() const {
    bad("tokens are one JSON list of strings, or a list of such lists, one for each sequence; bytes that are no UTF-8 "
        "are a list of numbers from 0 to 255");
  }

  Kind kind_ = Kind::kUnknown;   // of the outermost list
  Kind inner_ = Kind::kUnknown;  // what the list at hand says about it
  std::vector<std::string> tokens_;
  Labels labels_;
  std::size_t empty_ = 0;  // lists without an element, while the kind is not known
  std::size_t total_ = 0;  // tokens
};

std::vector<std::string> parse_lines(std::string_view text, const std::string& where) {
  std::vector<std::string> tokens;
  bool all_cr = text.find('\n') != std::string_view::npos;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    tokens.emplace_back(text.substr(at, end - at));
    check_token(tokens.back(), tokens.size() - 1, where, at);
    all_cr = all_cr && (end == text.size() || tokens.back().ends_with('\r'));
    at = end + 1;
  }
  // Lines that all end in CR LF come from another system, whether or not the last one ends; a single CR is part of its
  // token.
  if (all_cr) {
    for (std::string& token : tokens) {
      if (token.ends_with('\r')) token.pop_back();
    }
  }
  return tokens;
}

// A text file may well begin with the token "[" or "[CLS]": a list has a string or its end after the bracket,
// or a second bracket and then a string or a number.
bool is_json_list(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t bracket = text.find_first_not_of(kBlanks);
  if (bracket == std::string_view::npos || text[bracket] != '[') return false;
  std::size_t next = text.find_first_not_of(kBlanks, bracket + 1);
  if (next == std::string_view::npos) return false;
  if (text[next] == '[') {
    next = text.find_first_not_of(kBlanks, next + 1);
    return next != std::string_view::npos &&
           std::string_view("\"0123456789").find(text[next]) != std::string_view::npos;
  }
  if (text[next] == ']') return text.find_first_not_of(kBlanks, next + 1) == std::string_view::npos;
  return text[next] == '"';
}

}  // namespace

Labels parse_tokens_json(const std::string& json, const std::string& where) {
  TokenReader reader;
  reader.parse(json, where);
  return reader.labels();
}

Labels read_tokens(const std::string& path) {
  const InputFile file(path);
  if (file.size() > kMaxTokenFile) {
    fail(Status::kLimit, "{}: a token file of {} bytes; the limit is {}", file.name(), file.size(), kMaxTokenFile);
  }
  file.refuse_pointer();
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, text.data(), text.size(), "the tokens");
  for (const std::string_view mark : {"\xFF\xFE", "\xFE\xFF"}) {
    if (text.starts_with(mark)) {
      fail(Status::kUnsupported, "{}: begins like UTF-16; tokens are UTF-8: save the file as that", file.name());
    }
  }
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  const bool json = has_suffix(path, ".json") || is_json_list(text);
  if (json) return parse_tokens_json(text, file.name());
  // A token may hold a zero byte. UTF-16 without a mark has one in every second place, and files that are no text have
  // many.
  if (std::count(text.begin(), text.end(), '\0') > std::ssize(text) / 4) {
    fail_at(
        Status::kUnsupported, file.name(), text.find('\0'),
        "one byte of four and more is zero, as in UTF-16 and in files that are no text; tokens are UTF-8, one a line: "
        "save the file as that");
  }
  return Labels(parse_lines(text, file.name()));
}

}  // namespace ag
