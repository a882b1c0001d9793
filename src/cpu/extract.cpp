// SPDX-License-Identifier: Apache-2.0
// Q and K to edges: the rows of all heads cut into tasks, done by all threads, handed to the sink in order.
#include "extract.hpp"

#include <memory>

#include "key_cache.hpp"
#include "row_task.hpp"

namespace ag::cpu {
namespace {

std::vector<Group> make_groups(const Problem& problem) {
  std::vector<Group> groups;
  for (std::int64_t b = 0; b < problem.batch(); ++b) {
    for (const std::int64_t h : problem.heads) {
      const std::int64_t key_head = problem.key_head_of(h);
      if (groups.empty() || groups.back().batch != b || groups.back().key_head != key_head)
        groups.push_back({b, key_head, {}});
      groups.back().heads.push_back(h);
    }
  }
  return groups;
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
        cache_(job_, groups_, tasks_per_head_) {
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      for (const std::int64_t head : groups_[g].heads) slices_.push_back({g, head});
    }
  }

  RunReport run() {
    report_.threads = job_.plan.threads;
    if (tasks_per_head_ == 0) {
      for (const auto& [group, head] : slices_) {
        begin_slice(group, head);
        sink_.end_slice(empty_sums(job_.problem, job_.problem.keys()));
      }
      return report_;
    }
    const auto count = static_cast<std::int64_t>(slices_.size()) * tasks_per_head_;
    std::vector<Worker> workers(static_cast<std::size_t>(job_.plan.threads));
    OrderedTasks<TaskResult> tasks(count, job_.plan.threads, control_);
    tasks.run([&](std::int64_t task, int worker, const Poll& poll,
                  TaskResult& result) { work(place(task), workers[static_cast<std::size_t>(worker)], poll, result); },
              [&](std::int64_t task, TaskResult& result) {
                fraction_ = static_cast<double>(task) / static_cast<double>(count);
                commit(place(task), result);
              },
              [count](std::int64_t done) { return static_cast<double>(done) / static_cast<double>(count); });
    return report_;
  }

 private:
  struct Worker {
    std::unique_ptr<RowTask<float>> f32;
    std::unique_ptr<RowTask<float>> pairs;
    std::unique_ptr<RowTask<double>> f64;
    std::unique_ptr<RowTask<double>> again;
  };

  TaskPlace place(std::int64_t task) const {
    const auto& [group, head] = slices_[static_cast<std::size_t>(task / tasks_per_head_)];
    const std::int64_t n = task % tasks_per_head_;
    const std::int64_t begin = (first_cut_ + n) * job_.plan.rows_per_task;
    return {group,
            {head, std::max(begin, job_.problem.query_begin),
             std::min(begin + job_.plan.rows_per_task, job_.problem.query_end)},
            n == 0,
            n + 1 == tasks_per_head_};
  }

  void work(const TaskPlace& at, Worker& worker, const Poll& poll, TaskResult& result) {
    KeySlot& slot = cache_.acquire(at.group, poll);
    const auto run_in = [&]<class T>(std::unique_ptr<RowTask<T>>& rows, PackKeys pack, Product product) {
      if (!rows) rows = std::make_unique<RowTask<T>>(job_, pack, product);
      rows->run(at.rows, slot, poll, result);
    };
    if (slot.facts.in_double) {
      run_in(worker.f64, job_.plan.pack, Product::kFloat);
    } else {
      try {
        const bool pairs = slot.facts.product != Product::kFloat;
        run_in(pairs ? worker.pairs : worker.f32, job_.plan.pack, slot.facts.product);
      } catch (const NeedsDouble&) {
        run_in(worker.again, PackKeys::kPerTask, Product::kFloat);  // nobody packed this group's keys in double
      }
    }
    // Counted once, with the first rows of the key head.
    if (at.first_of_slice && at.rows.head == slot.group->heads.front()) {
      result.report.skipped_nonfinite += static_cast<std::int64_t>(slot.facts.bad_keys.size());
    }
    cache_.release(at.group);
  }

  void commit(const TaskPlace& at, TaskResult& result) {
    if (at.first_of_slice) {
      begin_slice(at.group, at.rows.head);
      sums_ = empty_sums(job_.problem, job_.problem.keys());
    }
    hand_on(at, result);
    report_.add(result.report);
    report_.add_rows(result.stats.data(), at.rows.end - at.rows.begin);
    add(sums_, result.sums);
    if (at.last_of_slice) sink_.end_slice(sums_);
  }

  // A task without a cut holds millions of edges, and a sink that writes them takes its time: in pieces, with a look at
  // the caller's wishes in between.
  void hand_on(const TaskPlace& at, const TaskResult& result) {
    constexpr std::int64_t kPieceEdges = 1 << 18;
    const std::int64_t rows = at.rows.end - at.rows.begin;
    for (std::int64_t begin = 0; begin < rows;) {
      const std::int64_t* offsets = result.offsets.data() + begin;
      std::int64_t count = 1;
      while (begin + count < rows && offsets[count + 1] - offsets[0] <= kPieceEdges) ++count;
      piece_offsets_.assign(offsets, offsets + count + 1);
      for (std::int64_t& offset : piece_offsets_) offset -= offsets[0];
      sink_.rows({at.rows.begin + begin, count, piece_offsets_.data(), result.keys.data() + offsets[0],
                  result.weights.data() + offsets[0], DType::kF32, result.stats.data() + begin});
      begin += count;
      if (begin < rows) control_.poll(fraction_);
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
  std::vector<std::pair<std::size_t, std::int64_t>> slices_;  // (group, head) in order of output
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
