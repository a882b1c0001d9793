// SPDX-License-Identifier: Apache-2.0
// The list of tasks that any launcher can run.
#include "../plan/tasks.hpp"

#include <attngraph/attngraph.h>

#include "guard.hpp"
#include "request.hpp"

using namespace ag::api;

attngraph_status attngraph_plan_tasks(const attngraph_tensor* q, const attngraph_tensor* k,
                                      const attngraph_options* options, int64_t pairs_per_task, attngraph_task* tasks,
                                      int64_t capacity, int64_t* count) {
  return guarded([&] {
    required(count, "count");
    if (capacity < 0) ag::fail(ag::Status::kArgument, "capacity is {}; it is at least 0", capacity);
    if (capacity > 0) required(tasks, "tasks");
    if (pairs_per_task < 1) {
      ag::fail(ag::Status::kArgument, "pairs_per_task is {}; it is at least 1, and some 2^31 for a core of a CPU",
               pairs_per_task);
    }
    const ag::Problem problem = make_problem(q, k, read_options(options), Data::kShapesOnly);
    const std::vector<ag::Task> list = ag::plan_tasks(problem, pairs_per_task);
    const auto needed = static_cast<int64_t>(list.size());
    if (capacity > 0 && needed > capacity) {
      ag::fail(ag::Status::kCapacity, "there are {} tasks, and room for {}", needed, capacity);
    }
    if (capacity > 0) {
      for (const ag::Task& task : list) {
        *tasks++ = {problem.layer,
                    static_cast<int64_t>(task.head_begin),
                    static_cast<int64_t>(task.head_end),
                    task.query_begin,
                    task.query_end,
                    task.pairs};
      }
    }
    *count = needed;
  });
}
