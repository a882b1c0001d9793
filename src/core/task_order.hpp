// SPDX-License-Identifier: Apache-2.0
// Which task is next, and which may be committed: the policy of OrderedTasks without its threads, so that any number of
// threads can be played through on paper (tests/cpu/schedule_test.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ag {

// Tasks are started and committed in order, and at most slots() of them are started and not committed.
// Invariant: committed() <= next start <= committed() + slots().
class TaskOrder {
 public:
  TaskOrder(std::int64_t count, int threads) : count_(count), ready_(3 * static_cast<std::size_t>(threads), 0) {}

  std::int64_t slots() const { return static_cast<std::int64_t>(ready_.size()); }
  std::size_t slot_of(std::int64_t task) const { return static_cast<std::size_t>(task) % ready_.size(); }
  bool all_started() const { return next_ >= count_; }
  bool all_committed() const { return committed_ >= count_; }
  bool can_start() const { return next_ < count_ && next_ < committed_ + slots(); }
  bool can_commit() const { return committed_ < count_ && ready_[slot_of(committed_)] != 0; }
  std::int64_t committed() const { return committed_; }  // tasks so far; also the one that is to be committed next

  std::int64_t start() { return next_++; }
  // Whether it is the one that the commit waits for.
  bool finish(std::int64_t task) {
    ready_[slot_of(task)] = 1;
    return task == committed_;
  }
  void commit() {
    ready_[slot_of(committed_)] = 0;
    ++committed_;
  }

 private:
  std::int64_t count_;
  std::vector<char> ready_;
  std::int64_t next_ = 0;
  std::int64_t committed_ = 0;
};

}  // namespace ag
