// SPDX-License-Identifier: Apache-2.0
// JSON from outside. nlohmann-json parses (strict UTF-8, exact integers, nothing recurses) and tells one value after
// another, so that memory goes with what a reader keeps; what JSON leaves open is decided here: nothing nests deeper
// than kMaxJsonDepth, no object has a name twice, and every error names the byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "input_file.hpp"

namespace ag {

using Json = nlohmann::json;
inline constexpr std::size_t kMaxJsonDepth = 8;

// Told what a text holds, in order. Whoever derives from it keeps what it wants and refuses what it does not know.
class JsonVisitor : private nlohmann::json_sax<Json> {
 public:
  // `where` and `base`: what errors call the text, and the offset of its first byte there. kFormat on the first fault.
  void parse(std::string_view text, const std::string& where, std::uint64_t base = 0);

 protected:
  virtual void opened() {}              // nesting() ends with the new container
  virtual void closed() {}              // nesting() still ends with it
  virtual void scalar(Json value) = 0;  // null, bool, number or string

  // The brackets that are open: "{[" within a list that is a member of the outermost object.
  const std::string& nesting() const { return nesting_; }
  // The name of the member at hand in the container at this depth, 0 is the outermost; empty in a list.
  const std::string& name(std::size_t depth) const { return levels_[depth].name; }
  std::uint64_t offset() const { return base_ + static_cast<std::uint64_t>(read_ - text_.data()) - 1; }  // last read
  const std::string& where() const { return where_; }
  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail_at(Status::kFormat, where_, offset(), format, std::forward<Args>(args)...);
  }

 private:
  bool null() final { return put(nullptr); }
  bool boolean(bool value) final { return put(value); }
  bool number_integer(std::int64_t value) final { return put(value); }
  bool number_unsigned(std::uint64_t value) final { return put(value); }
  bool number_float(double value, const std::string&) final { return put(value); }
  bool string(std::string& value) final { return put(std::move(value)); }
  bool binary(Json::binary_t&) final { return false; }  // not in text
  bool start_object(std::size_t) final { return open('{'); }
  bool start_array(std::size_t) final { return open('['); }
  bool key(std::string& name) final;
  bool end_object() final { return close(); }
  bool end_array() final { return close(); }
  bool parse_error(std::size_t count, const std::string& token, const nlohmann::detail::exception& error) final;

  bool put(Json value) {
    scalar(std::move(value));
    return true;
  }
  bool open(char bracket);
  bool close();

  struct Level {
    std::string name;
    std::unordered_set<std::string> names;
  };
  std::string_view text_;
  const char* read_ = nullptr;  // end of what the parser has read
  std::string where_;
  std::uint64_t base_ = 0;
  std::string nesting_;
  std::vector<Level> levels_;  // at least as many as nesting_ has brackets; kept from one text to the next
};

}  // namespace ag
