// SPDX-License-Identifier: Apache-2.0
// The end of a file's name. EDGES.NPZ is as good a name as edges.npz.
#pragma once

#include <algorithm>
#include <string_view>

namespace ag {

// `suffix` in small letters, as ".npz".
inline bool has_suffix(std::string_view path, std::string_view suffix) {
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b; };
  return path.size() >= suffix.size() &&
         std::equal(suffix.begin(), suffix.end(), path.end() - static_cast<std::ptrdiff_t>(suffix.size()),
                    [&](char small, char given) { return same(given, small); });
}

}  // namespace ag
