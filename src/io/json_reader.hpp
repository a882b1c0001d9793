// SPDX-License-Identifier: Apache-2.0
// A strict JSON reader that is asked for what should come next. Nothing recurses, integers are exact, and every error
// names the byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "input_file.hpp"

namespace ag {

inline constexpr int kMaxJsonDepth = 8;

class JsonReader {
 public:
  // name and base: what errors call the text, and the offset of its first byte there.
  JsonReader(std::string_view text, std::string name, std::uint64_t base = 0)
      : text_(text), name_(std::move(name)), base_(base) {}

  bool take(char c);    // skip blanks; if c comes next, take it
  void expect(char c);  // or fail
  // For `{` ... `}` and `[` ... `]`: true when another member follows. `first` is true before the first one.
  bool more(char close, bool& first);

  std::string string();       // valid UTF-8; lone surrogates are refused
  std::string byte_string();  // \udc80..\udcff alone stand for bytes (see BadBytes::kEscape); other lone surrogates
                              // are kept in three bytes
  std::uint64_t unsigned_integer();  // exact; no sign, fraction or exponent
  double number();                   // null reads as NaN
  void skip_value();                 // anything, up to kMaxJsonDepth
  void end();                        // only blanks may follow

  std::uint64_t offset() const { return base_ + at_; }
  template <class... Args>
  [[noreturn]] void bad(std::uint64_t byte, fmt::format_string<Args...> format, Args&&... args) const {
    fail_at(Status::kFormat, name_, byte, format, std::forward<Args>(args)...);
  }

 private:
  char peek();  // the next byte that is no blank; '\0' at the end
  std::string read_string(bool bytes);
  char32_t hex4();
  std::string_view number_token();
  bool take_word(std::string_view word);

  std::string_view text_;
  std::string name_;
  std::uint64_t base_;
  std::size_t at_ = 0;
};

}  // namespace ag
