// SPDX-License-Identifier: Apache-2.0
#include "threads.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cost.hpp"

namespace ag {
namespace {

// Starting and joining a thread, and the first touch of its memory.
constexpr double kThreadSeconds = 50e-6;
// Floating-point operations a second of one thread, where the exponential and the sweep of a score are worth about 60.
constexpr double kOperations = 1e11, kOperationsPerScore = 60;

}  // namespace

ThreadChoice choose_threads(const PlanShape& shape, int asked, int available) {
  const int most = std::max(available, 1);
  if (asked > 0) return {asked, fmt::format("of {}: as asked", most)};
  const double work = pairs_of(shape) * (2 * static_cast<double>(shape.head_dim) + kOperationsPerScore) / kOperations;
  // n threads take work / n + n * kThreadSeconds; the next one saves work / n^2.
  const double pays = std::clamp(std::sqrt(work / (2 * kThreadSeconds)), 1.0, static_cast<double>(most));
  const int threads = static_cast<int>(pays);
  if (threads == most) return {threads, fmt::format("of {}: all that this process may use", most)};
  return {threads, fmt::format("of {}: another would not save twice what it costs, of about {:.2g} ms of work", most,
                               1e3 * work)};
}

int key_places(const PlanShape& shape, int threads, std::int64_t rows_per_task, std::int64_t most) {
  if (threads == 1) return 1;
  const std::int64_t heads =
      std::max<std::int64_t>(1, std::min<std::int64_t>(shape.heads_per_key_head, shape.query_heads));
  const std::int64_t groups = (shape.batch * shape.query_heads + heads - 1) / heads;
  const std::int64_t tasks = std::max<std::int64_t>(1, heads * ((shape.queries + rows_per_task - 1) / rows_per_task));
  const std::int64_t wanted = std::max<std::int64_t>(2, (2 * threads + tasks - 1) / tasks + 1);
  return static_cast<int>(std::clamp<std::int64_t>(std::min(wanted, groups), 1, std::max<std::int64_t>(most, 1)));
}

}  // namespace ag
