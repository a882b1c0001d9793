// SPDX-License-Identifier: Apache-2.0
#include "table.hpp"

#include <algorithm>

#include "text.hpp"

namespace attngraph::cli {

Table::Table(const std::vector<std::string>& headings) {
  rows_.emplace_back();
  for (const std::string& heading : headings) {
    left_.push_back(heading[0] == '<');
    rows_[0].push_back(left_.back() ? heading.substr(1) : heading);
  }
}

void Table::row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

std::string Table::text() const {
  std::vector<std::size_t> widths(left_.size(), 0);
  for (const auto& cells : rows_)
    for (std::size_t c = 0; c < widths.size(); ++c) widths[c] = std::max(widths[c], display_width(cells[c]));
  std::string out;
  for (const auto& cells : rows_) {
    std::string line;
    for (std::size_t c = 0; c < widths.size(); ++c) {
      const std::string padding(widths[c] - display_width(cells[c]), ' ');
      if (c > 0) line += "  ";
      line += left_[c] ? cells[c] + padding : padding + cells[c];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

}  // namespace attngraph::cli
