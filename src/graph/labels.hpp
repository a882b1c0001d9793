// SPDX-License-Identifier: Apache-2.0
// Words of one side of a graph, keys or queries, as bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ag {

struct Labels {
  // None; one list for every sequence of the batch; or a list for each of them.
  std::vector<std::vector<std::string>> lists;

  Labels() = default;
  explicit Labels(std::vector<std::string> of_all) {
    if (!of_all.empty()) lists.push_back(std::move(of_all));
  }

  bool empty() const { return lists.empty(); }
  // Which list a sequence has: a place in `lists`, which are not empty; past the end when it has none.
  std::size_t list_of(std::int64_t batch) const { return lists.size() == 1 ? 0 : static_cast<std::size_t>(batch); }
  // How many words a sequence has.
  std::int64_t count(std::int64_t batch) const {
    const std::size_t list = list_of(batch);
    return list < lists.size() ? static_cast<std::int64_t>(lists[list].size()) : 0;
  }
  // Word i of a sequence; null where it has none.
  const std::string* word(std::int64_t batch, std::int64_t i) const {
    return i >= 0 && i < count(batch) ? &lists[list_of(batch)][static_cast<std::size_t>(i)] : nullptr;
  }
  // The words where one list is for all sequences; none otherwise.
  const std::vector<std::string>& common() const {
    static const std::vector<std::string> kNone;
    return lists.size() == 1 ? lists[0] : kNone;
  }
  bool operator==(const Labels&) const = default;
};

}  // namespace ag
