// SPDX-License-Identifier: Apache-2.0
// Aligned columns on standard output.
#pragma once

#include <string>
#include <vector>

namespace attngraph::cli {

class Table {
 public:
  // A name that begins with '<' is the heading of a left-aligned column; the others are right-aligned.
  explicit Table(const std::vector<std::string>& headings);
  void row(std::vector<std::string> cells);  // as many as there are headings
  std::string text() const;

 private:
  std::vector<bool> left_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace attngraph::cli
