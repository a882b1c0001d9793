// SPDX-License-Identifier: Apache-2.0
#include "json_text.hpp"

#include <iterator>

#include "escape.hpp"

namespace ag {
namespace {

// Walks over a text and says how far it came: the parser tells the place of its own errors only.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor(const char* at, const char** read) : at_(at), read_(read) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    *read_ = ++at_;
    return *this;
  }
  bool operator==(const Cursor& other) const { return at_ == other.at_; }
  bool operator!=(const Cursor& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** read_;
};

}  // namespace

void JsonVisitor::parse(std::string_view text, const std::string& where, std::uint64_t base) {
  text_ = text;
  read_ = text.data();
  where_ = where;
  base_ = base;
  nesting_.clear();
  // The parser takes a NUL for the end of the text, whatever follows.
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) fail_at(Status::kFormat, where, base + nul, "JSON: a control character");
  nlohmann::json_sax<Json>* const events = this;
  Json::sax_parse(Cursor(text.data(), &read_), Cursor(text.data() + text.size(), &read_), events);
}

bool JsonVisitor::open(char bracket) {
  if (nesting_.size() == kMaxJsonDepth) bad("JSON is nested deeper than {} levels", kMaxJsonDepth);
  if (levels_.size() == nesting_.size()) levels_.emplace_back();
  levels_[nesting_.size()].name.clear();
  levels_[nesting_.size()].names.clear();
  nesting_ += bracket;
  opened();
  return true;
}

bool JsonVisitor::close() {
  closed();
  nesting_.pop_back();
  return true;
}

bool JsonVisitor::key(std::string& name) {
  Level& level = levels_[nesting_.size() - 1];
  if (!level.names.insert(name).second) bad("JSON: a second {} in one object", in_quotes(name, 80));
  level.name = std::move(name);
  return true;
}

bool JsonVisitor::parse_error(std::size_t count, const std::string&, const nlohmann::detail::exception& error) {
  // "[json.exception...] parse error at line 1, column 2: what is wrong; last read: 'any length of text'"
  std::string_view reason = error.what();
  reason = reason.substr(0, reason.find("; last read"));
  for (const std::string_view before : {"] ", ": "}) {
    const std::size_t at = reason.find(before);
    if (at != std::string_view::npos) reason.remove_prefix(at + before.size());
  }
  fail_at(Status::kFormat, where_, base_ + (count > 0 ? count - 1 : 0), "JSON: {}", in_quotes(reason));
}

}  // namespace ag
