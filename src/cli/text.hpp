// SPDX-License-Identifier: Apache-2.0
// Text for people: nothing a file says may drive the terminal, and columns line up.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace attngraph::cli {

// One line of valid UTF-8 without control, line-breaking or bidirectional characters; invalid bytes become U+FFFD.
std::string sanitised(std::string_view text);

// A token as a quoted word: "\n" and "\t" are written out, the rest is sanitised, long ones are cut at `limit` columns.
std::string quoted_token(std::string_view token, std::size_t limit = 24);

// The word at a position: its token in quotes, or the bare position when it has none.
std::string word(const std::optional<std::string_view>& token, std::int64_t position);

// Columns that a terminal needs for sanitised text.
std::size_t display_width(std::string_view text);

// To standard error. Where nobody listens (it is closed, or a full disk) there is nobody to tell, and the work goes on.
template <class... T>
void say(fmt::format_string<T...> format, T&&... values) {
  const std::string text = fmt::format(format, std::forward<T>(values)...);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string grouped(std::int64_t n);     // 1,234,567
std::string percent(double share);       // 43.1 %
std::string shortest(double value);      // as few digits as tell it from its neighbours
std::string weight_text(double weight);  // shortest that reads back as the same float32, else float64
std::string bytes(std::uint64_t count);  // 3.0 MiB
std::string seconds(double elapsed);     // 0.123 s
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");
std::string numbers(const std::vector<std::int64_t>& values);  // 5, 12

}  // namespace attngraph::cli
