// SPDX-License-Identifier: Apache-2.0
// Q and K to edges: the rows of all heads cut into tasks, done by all threads, handed to the sink in order.
#include "extract.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "key_cache.hpp"
#include "row_task.hpp"
#include "row_ways.hpp"

namespace ag::cpu {
namespace {

std::vector<Group> make_groups(const Problem& problem) {
  std::vector<Group> groups;
  for (HeadGroup& group : head_groups(problem)) groups.push_back({{std::move(group)}});
  return groups;
}

// Heads that share keys fill a register tile together where a head alone, of a decoding step say, cannot: then the keys
// are read once for all of them. Sums over queries are kept a head at a time, and so is mass beside a sink.
std::int64_t heads_per_task(const Job& job, std::int64_t tasks_per_head) {
  const Problem& p = job.problem;
  const std::int64_t queries = p.query_end - p.query_begin;
  const bool apart = p.stats.columns || p.stats.distances || (p.sinks && p.selection.mass > 0);
  if (tasks_per_head != 1 || apart) return 1;
  return std::max<std::int64_t>(1, kernels<float>().rows_per_block / queries);
}

void add(SliceSums& total, const SliceSums& part) {
  for (std::size_t n = 0; n < part.received.size(); ++n) total.received[n] += part.received[n];
  for (std::size_t n = 0; n < part.distances.size(); ++n) total.distances[n] += part.distances[n];
}

// Which rows a task is.
struct TaskPlace {
  std::size_t group = 0;
  RowSpan rows;
  bool first_of_slice = false;
  bool last_of_slice = false;
};

// The rows of a task that were done in several ways, in order.
void merge(std::span<const RowPlan> rows, std::span<const TaskResult, kWays> parts, TaskResult& result) {
  result.clear();
  for (const TaskResult& part : parts) {
    if (part.offsets.empty()) continue;
    result.report.add(part.report);
    if (result.sums.received.empty() && result.sums.distances.empty()) {
      result.sums = part.sums;
    } else {
      add(result.sums, part.sums);
    }
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const TaskResult& part = parts[static_cast<std::size_t>(rows[r].way)];
    const auto begin = part.offsets[r], end = part.offsets[r + 1];
    result.keys.insert(result.keys.end(), part.keys.begin() + begin, part.keys.begin() + end);
    result.weights.insert(result.weights.end(), part.weights.begin() + begin, part.weights.begin() + end);
    result.stats.push_back(part.stats.view()[static_cast<std::int64_t>(r)]);
    result.offsets.push_back(static_cast<std::int64_t>(result.keys.size()));
  }
}

class Extraction {
 public:
  Extraction(const Problem& problem, const Plan& plan, RowSink& sink, Control& control)
      : job_{problem, plan},
        sink_(sink),
        control_(control),
        groups_(make_groups(problem)),
        // Tasks are cut at global multiples of rows_per_task, so that blocks of rows are never shared by two.
        first_cut_(problem.query_begin / plan.rows_per_task),
        tasks_per_head_(problem.query_end > problem.query_begin
                            ? (problem.query_end - 1) / plan.rows_per_task + 1 - first_cut_
                            : 0),
        cache_(job_, groups_) {
    const std::int64_t together = heads_per_task(job_, tasks_per_head_);
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const auto heads = static_cast<std::int64_t>(groups_[g].heads.size());
      for (std::int64_t first = 0; first < heads; first += together) {
        parts_.push_back({g, std::span(groups_[g].heads)
                                 .subspan(static_cast<std::size_t>(first),
                                          static_cast<std::size_t>(std::min(together, heads - first)))});
        groups_[g].tasks += tasks_per_head_;
      }
    }
  }

  RunReport run() {
    report_.threads = job_.plan.threads;
    if (tasks_per_head_ == 0) {
      for (const auto& [group, heads] : parts_) {
        for (const std::int64_t head : heads) {
          begin_slice(group, head);
          sink_.end_slice(empty_sums(job_.problem, job_.problem.keys()));
        }
      }
      return report_;
    }
    const auto count = static_cast<std::int64_t>(parts_.size()) * tasks_per_head_;
    std::vector<Worker> workers(static_cast<std::size_t>(job_.plan.threads));
    OrderedTasks<TaskResult> tasks(count, job_.plan.threads, control_);
    tasks.run([&](std::int64_t task, int worker, const Poll& poll,
                  TaskResult& result) { work(place(task), workers[static_cast<std::size_t>(worker)], poll, result); },
              [&](std::int64_t task, TaskResult& result) {
                fraction_ = static_cast<double>(task) / static_cast<double>(count);
                commit(place(task), result);
              },
              [count](std::int64_t done) { return static_cast<double>(done) / static_cast<double>(count); });
    cache_.told();
    return report_;
  }

 private:
  struct Worker {
    std::optional<RowWays> ways;
    std::unique_ptr<RowTask<float>> f32, pairs;
    std::unique_ptr<RowTask<double>> f64;
    std::array<TaskResult, kWays> parts;  // by way
  };

  TaskPlace place(std::int64_t task) const {
    const auto& [group, heads] = parts_[static_cast<std::size_t>(task / tasks_per_head_)];
    const std::int64_t n = task % tasks_per_head_;
    const std::int64_t begin = (first_cut_ + n) * job_.plan.rows_per_task;
    return {group,
            {heads, std::max(begin, job_.problem.query_begin),
             std::min(begin + job_.plan.rows_per_task, job_.problem.query_end)},
            n == 0,
            n + 1 == tasks_per_head_};
  }

  void work(const TaskPlace& at, Worker& worker, const Poll& poll, TaskResult& result) {
    KeySlot& slot = cache_.acquire(at.group, poll);
    if (!worker.ways) worker.ways.emplace(job_);
    const std::span<RowPlan> rows = worker.ways->choose(at.rows, slot, poll);
    int ways = 0;
    Way last = Way::kFloat;
    const auto run_in = [&]<class T>(std::unique_ptr<RowTask<T>>& task, Way way) {
      TaskResult& part = worker.parts[static_cast<std::size_t>(way)];
      part.offsets.clear();
      if (std::none_of(rows.begin(), rows.end(), [way](const RowPlan& row) { return row.way == way; })) return;
      if (!task) task = std::make_unique<RowTask<T>>(job_, way);
      task->run(at.rows, rows, slot, poll, part);
      ++ways;
      last = way;
    };
    run_in(worker.pairs, Way::kPairs);
    run_in(worker.f32, Way::kFloat);
    run_in(worker.f64, Way::kDouble);  // at last: rows that the others could not do have become its
    if (ways == 1) {
      std::swap(result, worker.parts[static_cast<std::size_t>(last)]);
    } else {
      merge(rows, worker.parts, result);
    }
    // Counted once, with the first rows of the key head.
    if (at.first_of_slice && at.rows.heads.front() == slot.group->heads.front()) {
      result.report.skipped_nonfinite += static_cast<std::int64_t>(slot.facts.bad_keys.size() - slot.bad_keys_told);
    }
    cache_.release(at.group);
  }

  void commit(const TaskPlace& at, TaskResult& result) {
    report_.add(result.report);
    report_.add_rows(result.stats.view(), at.rows.count());
    for (std::size_t n = 0; n < at.rows.heads.size(); ++n) {
      if (at.first_of_slice) {
        begin_slice(at.group, at.rows.heads[n]);
        sums_ = empty_sums(job_.problem, job_.problem.keys());
      }
      hand_on(at.rows, static_cast<std::int64_t>(n) * at.rows.queries(), result);
      add(sums_, result.sums);
      if (at.last_of_slice) sink_.end_slice(sums_);
    }
  }

  // A task without a cut holds millions of edges, and a sink that writes them takes its time: in pieces, with a look at
  // the caller's wishes in between.
  void hand_on(const RowSpan& rows, std::int64_t first, const TaskResult& result) {
    constexpr std::int64_t kPieceEdges = 1 << 18;
    for (std::int64_t begin = 0; begin < rows.queries();) {
      const std::int64_t* offsets = result.offsets.data() + first + begin;
      std::int64_t count = 1;
      while (begin + count < rows.queries() && offsets[count + 1] - offsets[0] <= kPieceEdges) ++count;
      piece_offsets_.assign(offsets, offsets + count + 1);
      for (std::int64_t& offset : piece_offsets_) offset -= offsets[0];
      sink_.rows({rows.begin + begin, count, piece_offsets_.data(), result.keys.data() + offsets[0],
                  result.weights.data() + offsets[0], DType::kF32, result.stats.view().from(first + begin)});
      begin += count;
      if (begin < rows.queries()) control_.poll(fraction_);
    }
  }

  void begin_slice(std::size_t group, std::int64_t head) {
    const Problem& p = job_.problem;
    sink_.begin_slice({{groups_[group].batch, p.layer, head}, p.query_begin, p.query_end - p.query_begin, p.keys()},
                      DType::kF32);
  }

  const Job job_;
  RowSink& sink_;
  Control& control_;
  std::vector<Group> groups_;
  std::vector<std::pair<std::size_t, std::span<const std::int64_t>>> parts_;  // (group, heads) in order of output
  std::int64_t first_cut_;
  std::int64_t tasks_per_head_;
  KeyCache cache_;
  RunReport report_;
  double fraction_ = 0;  // of the work, at the task being committed
  std::vector<std::int64_t> piece_offsets_;
  SliceSums sums_;  // of the slice that is being committed
};

}  // namespace

RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) {
  return Extraction(problem, plan, sink, control).run();
}

}  // namespace ag::cpu
