// SPDX-License-Identifier: Apache-2.0
// Which key heads are held at a time: the policy of KeyCache without its threads (tests/cpu/schedule_test.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ag::cpu {

// Groups take the places in turn: group g stands in place g mod places, after group g - places has been released by all
// of its tasks. In order, because a later one, come first, would hold the place while its last tasks wait for the rows
// of an earlier one to be committed, and those wait for the place.
class KeyTurns {
 public:
  enum class Answer {
    kReady,    // go on
    kPrepare,  // the place is the caller's to fill; prepared() when it is
    kWait,     // ask again when something was prepared or released
  };

  explicit KeyTurns(std::size_t places) : places_(places) {
    for (std::size_t n = 0; n < places; ++n) places_[n].next = n;
  }

  std::size_t place_of(std::size_t group) const { return group % places_.size(); }

  // `tasks` of the group will ask and release once each.
  Answer ask(std::size_t group, std::int64_t tasks) {
    Place& place = places_[place_of(group)];
    if (place.group == group) return place.ready ? Answer::kReady : Answer::kWait;
    if (place.next != group || place.remaining > 0) return Answer::kWait;
    place = {group, group + places_.size(), tasks, false};
    return Answer::kPrepare;
  }
  void prepared(std::size_t group) { places_[place_of(group)].ready = true; }
  // Whether that was the last task of the group: the place is free.
  bool release(std::size_t group) { return --places_[place_of(group)].remaining == 0; }

 private:
  struct Place {
    std::size_t group = static_cast<std::size_t>(-1);
    std::size_t next = 0;  // the group that takes the place next
    std::int64_t remaining = 0;
    bool ready = false;
  };
  std::vector<Place> places_;
};

}  // namespace ag::cpu
