// SPDX-License-Identifier: Apache-2.0
// A ready matrix to edges: one pass over the stored weights, compared exactly.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../core/edge_rule.hpp"
#include "../core/numbers.hpp"
#include "../core/ordered_tasks.hpp"
#include "../core/select.hpp"
#include "extract.hpp"
#include "kernels.hpp"

namespace ag::cpu {
namespace {

// The smallest T that is an edge: x >= t in double and x >= smallest_edge(t) in T are the same. Threshold 0 keeps every
// allowed pair.
template <class T>
T smallest_edge(double threshold) {
  if (threshold == 0) return std::numeric_limits<T>::lowest();
  const T nearest = static_cast<T>(std::min(threshold, static_cast<double>(std::numeric_limits<T>::max())));
  return is_matrix_edge(static_cast<double>(nearest), threshold)
             ? nearest
             : std::nextafter(nearest, std::numeric_limits<T>::infinity());
}

template <class T>
struct FilterResult {
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> keys;
  std::vector<T> weights;
  RowColumns stats;
  SliceSums sums;
  RunReport report;
};

// T: float for f32, f16 and bf16, which it holds exactly; double for f64.
template <class T>
class Filter {
 public:
  Filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control)
      : p_(problem),
        kernel_(matrix_kernels<T>()),
        cut_(smallest_edge<T>(problem.selection.threshold)),
        // A MiB of input a task: enough to be worth a hand-over, little enough to answer a cancel at once.
        rows_per_task_(std::clamp<std::int64_t>((1 << 20) / std::max<std::int64_t>(1, problem.keys() * 4), 1, 1024)),
        rows_(problem.query_end - problem.query_begin),
        tasks_per_slice_((rows_ + rows_per_task_ - 1) / rows_per_task_),
        threads_(plan.threads),
        sink_(sink),
        control_(control) {}

  RunReport run() {
    report_.threads = threads_;
    const auto heads = static_cast<std::int64_t>(p_.heads.size());
    const std::int64_t slices = p_.batch() * heads;
    if (tasks_per_slice_ == 0) {
      for (std::int64_t s = 0; s < slices; ++s) {
        begin_slice(s);
        sink_.end_slice(empty_sums(p_, p_.keys()));
      }
      return report_;
    }
    const std::int64_t count = slices * tasks_per_slice_;
    std::vector<Worker> workers(idx(threads_));
    OrderedTasks<FilterResult<T>> tasks(count, threads_, control_);
    tasks.run([&](std::int64_t task, int worker, const Poll& poll,
                  FilterResult<T>& result) { work(task, workers[idx(worker)], poll, result); },
              [&](std::int64_t task, FilterResult<T>& result) { commit(task, result); },
              [count](std::int64_t done) { return static_cast<double>(done) / static_cast<double>(count); });
    return report_;
  }

 private:
  struct Worker {
    std::vector<T> row;  // a copy, where the matrix's own memory will not do
    std::vector<T> values;
    std::vector<std::int32_t> keys;
    std::vector<RowEdge> edges;
  };

  // What a row holds once its keys are counted.
  struct RowView {
    const T* x = nullptr;
    std::int64_t first_key = 0;
    std::int64_t count = 0;
    bool masked = false;  // -inf entries are masked
  };

  std::int64_t batch_of(std::int64_t slice) const { return slice / static_cast<std::int64_t>(p_.heads.size()); }
  std::int64_t head_of(std::int64_t slice) const { return p_.heads[idx(slice) % p_.heads.size()]; }

  void work(std::int64_t task, Worker& worker, const Poll& poll, FilterResult<T>& result) {
    const std::int64_t slice = task / tasks_per_slice_;
    const std::int64_t begin = p_.query_begin + task % tasks_per_slice_ * rows_per_task_;
    const std::int64_t end = std::min(begin + rows_per_task_, p_.query_end);
    result.offsets.assign(1, 0);
    result.keys.clear();
    result.weights.clear();
    result.stats.clear();
    result.sums = empty_sums(p_, p_.keys());
    result.report = {};
    worker.values.resize(idx(p_.keys()));
    worker.keys.resize(idx(p_.keys()));
    const std::int64_t rows_per_poll = std::max<std::int64_t>(1, (1 << 16) / std::max<std::int64_t>(1, p_.keys()));
    for (std::int64_t i = begin; i < end; ++i) {
      if ((i - begin) % rows_per_poll == 0) poll();  // which asks the clock: a short row takes no longer
      filter_row(batch_of(slice), head_of(slice), i, worker, result);
      result.offsets.push_back(static_cast<std::int64_t>(result.keys.size()));
    }
  }

  void filter_row(std::int64_t b, std::int64_t h, std::int64_t i, Worker& worker, FilterResult<T>& result) {
    RowView row = view(b, h, i, worker);
    if (p_.mask.tensor) row = masked_view(b, h, i, worker, result.report);
    RowStats stats;
    double sum = 0;
    std::int64_t found = threshold(row, worker, sum, stats);
    if (!std::isfinite(sum) && !row.masked) {
      // Something counts that is not finite, or finite weights sum to more than a double: look at each.
      row = masked_view(b, h, i, worker, result.report);
      sum = 0;
      stats = {};
      found = threshold(row, worker, sum, stats);
    }
    if (stats.max_key >= 0) stats.logsumexp = std::log(sum);
    if (p_.stats.entropy) stats.entropy = kernel_.entropy_row(row.x, row.count);
    add_sums(i, row, result.sums);
    stats.kept_mass = append_edges(found, worker, result);
    result.stats.push_back(stats);
  }

  std::int64_t threshold(const RowView& row, Worker& worker, double& sum, RowStats& stats) const {
    T maximum = -std::numeric_limits<T>::infinity();
    const std::int64_t found = kernel_.threshold_row(row.x, row.count, row.first_key, cut_, row.masked,
                                                     worker.keys.data(), worker.values.data(), &sum, &maximum);
    if (maximum > -std::numeric_limits<T>::infinity()) {
      stats.maximum = static_cast<double>(maximum);
      // Where there are edges, the largest weight is one of them.
      stats.max_key = found > 0
                          ? worker.keys[idx(kernel_.index_of(worker.values.data(), found, maximum))]
                          : static_cast<std::int32_t>(row.first_key + kernel_.index_of(row.x, row.count, maximum));
    }
    return found;
  }

  // The row's allowed span, in place when the matrix is stored as T side by side.
  RowView view(std::int64_t b, std::int64_t h, std::int64_t i, Worker& worker) const {
    const KeyRange range = p_.mask.range(b, i, p_.keys());
    RowView row{nullptr, range.begin, range.size(), false};
    const std::byte* source = p_.weights.at(b, h, i, range.begin);
    const bool in_place = size_of(p_.weights.dtype) == sizeof(T) && (p_.weights.strides[3] == 1 || row.count <= 1) &&
                          reinterpret_cast<std::uintptr_t>(source) % alignof(T) == 0;
    if (in_place) {
      row.x = reinterpret_cast<const T*>(source);
    } else {
      worker.row.resize(idx(p_.keys()));
      kernel_.unpack_row(source, p_.weights.dtype, p_.weights.strides[3], row.count, worker.row.data());
      row.x = worker.row.data();
    }
    return row;
  }

  // A copy of the row's span, masked entries and, by request, those that are not finite replaced by -inf.
  RowView masked_view(std::int64_t b, std::int64_t h, std::int64_t i, Worker& worker, RunReport& report) const {
    const KeyRange range = p_.mask.range(b, i, p_.keys());
    worker.row.resize(idx(p_.keys()));
    kernel_.unpack_row(p_.weights.at(b, h, i, range.begin), p_.weights.dtype, p_.weights.strides[3], range.size(),
                       worker.row.data());
    for (std::int64_t n = 0; n < range.size(); ++n) {
      T& x = worker.row[idx(n)];
      const std::int64_t j = range.begin + n;
      const TensorView& mask = p_.mask.tensor;
      if (mask && mask_bias(mask.dtype, mask.at(b, h, i, j)) == -kInfinity) {
        x = -std::numeric_limits<T>::infinity();
      } else if (!std::isfinite(x)) {
        if (p_.nonfinite == Nonfinite::kError) {
          fail(
              Status::kNonfinite,
              "the matrix holds {} at batch {}, head {}, query {}, key {}; clean the input or ask to skip such weights",
              static_cast<double>(x), b, h, i, j);
        }
        ++report.skipped_nonfinite;
        x = -std::numeric_limits<T>::infinity();
      }
    }
    return {worker.row.data(), range.begin, range.size(), true};
  }

  double append_edges(std::int64_t found, Worker& worker, FilterResult<T>& result) const {
    double kept_mass = 0;
    if (p_.selection.top_k == 0 && p_.selection.mass == 0) {
      for (std::int64_t n = 0; n < found; ++n) kept_mass += static_cast<double>(worker.values[idx(n)]);
      result.keys.insert(result.keys.end(), worker.keys.begin(), worker.keys.begin() + found);
      result.weights.insert(result.weights.end(), worker.values.begin(), worker.values.begin() + found);
      return kept_mass;
    }
    worker.edges.clear();
    for (std::int64_t n = 0; n < found; ++n) {
      worker.edges.push_back({static_cast<double>(worker.values[idx(n)]), worker.keys[idx(n)]});
    }
    select_row(p_.selection, worker.edges);
    for (const RowEdge& edge : worker.edges) {
      kept_mass += edge.weight;
      result.keys.push_back(edge.key);
      result.weights.push_back(static_cast<T>(edge.weight));
    }
    return kept_mass;
  }

  void add_sums(std::int64_t i, const RowView& row, SliceSums& sums) const {
    if (sums.received.empty() && sums.distances.empty()) return;
    for (std::int64_t n = 0; n < row.count; ++n) {
      if (row.masked && std::isinf(row.x[n])) continue;
      const std::int64_t j = row.first_key + n;
      const double weight = static_cast<double>(row.x[n]);
      if (!sums.received.empty()) sums.received[idx(j)] += weight;
      if (!sums.distances.empty()) sums.distances[idx(i + p_.mask.query_offset - j - sums.distance_begin)] += weight;
    }
  }

  void commit(std::int64_t task, FilterResult<T>& result) {
    const std::int64_t n = task % tasks_per_slice_;
    if (n == 0) {
      begin_slice(task / tasks_per_slice_);
      sums_ = empty_sums(p_, p_.keys());
    }
    const std::int64_t begin = p_.query_begin + n * rows_per_task_;
    sink_.rows({begin, static_cast<std::int64_t>(result.stats.size()), result.offsets.data(), result.keys.data(),
                result.weights.data(), weight_dtype(), result.stats.view()});
    report_.add(result.report);
    report_.add_rows(result.stats.view(), static_cast<std::int64_t>(result.stats.size()));
    for (std::size_t c = 0; c < sums_.received.size(); ++c) sums_.received[c] += result.sums.received[c];
    for (std::size_t c = 0; c < sums_.distances.size(); ++c) sums_.distances[c] += result.sums.distances[c];
    if (n + 1 == tasks_per_slice_) sink_.end_slice(sums_);
  }

  void begin_slice(std::int64_t slice) {
    sink_.begin_slice({{batch_of(slice), p_.layer, head_of(slice)}, p_.query_begin, rows_, p_.keys()}, weight_dtype());
  }

  static constexpr DType weight_dtype() { return sizeof(T) == 8 ? DType::kF64 : DType::kF32; }

  const MatrixProblem& p_;
  const MatrixKernels<T>& kernel_;
  const T cut_;
  const std::int64_t rows_per_task_;
  const std::int64_t rows_;
  const std::int64_t tasks_per_slice_;
  const int threads_;
  RowSink& sink_;
  Control& control_;
  RunReport report_;
  SliceSums sums_;  // of the slice that is being committed
};

}  // namespace

RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) {
  if (problem.weights.dtype == DType::kF64) return Filter<double>(problem, plan, sink, control).run();
  return Filter<float>(problem, plan, sink, control).run();
}

}  // namespace ag::cpu
