// SPDX-License-Identifier: Apache-2.0
// How many threads a problem is worth. Answers do not depend on it.
#pragma once

#include <string>

#include "plan.hpp"

namespace ag {

struct ThreadChoice {
  int threads = 1;
  std::string reason;  // "of 16: ...", to follow the number
};

// Who asks for a number gets it. Otherwise another thread is started while it saves at least twice what it costs.
ThreadChoice choose_threads(const PlanShape& shape, int asked, int available);

// Key heads to be held at a time, so that tasks of one or many of them keep all threads busy: enough for two tasks a
// thread, and one more for what is finished meanwhile; never above `most`, which memory allows.
int key_places(const PlanShape& shape, int threads, std::int64_t rows_per_task, std::int64_t most);

}  // namespace ag
