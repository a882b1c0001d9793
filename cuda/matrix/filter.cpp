// SPDX-License-Identifier: Apache-2.0
// A ready matrix to edges: its rows cut into chunks, filtered on the devices, handed to the sink in order.
#include "filter.hpp"

#include "../../src/core/numbers.hpp"
#include "../../src/core/ordered_tasks.hpp"
#include "../../src/core/select.hpp"
#include "../run/extract.hpp"
#include "../run/row_delivery.hpp"
#include "../run/team.hpp"
#include "../run/tensors.hpp"
#include "matrix_filter.hpp"

namespace ag::cuda {
namespace {

// Finished rows of one slice. Reused, for its pinned memory. Weight: double for a matrix of f64, else float.
template <class Weight>
struct FilterResult {
  PinnedBuffer<std::int64_t> offsets;
  PinnedBuffer<std::int32_t> keys;
  PinnedBuffer<Weight> weights;
  PinnedBuffer<double> figures;  // logsumexp, maximum, kept mass, entropy when it is asked for: [4][rows]
  PinnedBuffer<std::int32_t> max_keys;
  PinnedBuffer<double> sum_values;
  SliceSums sums;
  std::int64_t skipped = 0;
  std::vector<RowEdge> row_edges;
};

template <class Weight>
class Filter {
 public:
  Filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control)
      : p_(problem),
        plan_(plan),
        sink_(sink),
        control_(control),
        rows_(problem.query_end - problem.query_begin),
        step_(std::max<std::int64_t>(1, plan.cuda.queries_per_chunk)),
        chunks_of_slice_((rows_ + step_ - 1) / step_) {}

  RunReport run() {
    const std::int64_t slices = p_.batch() * static_cast<std::int64_t>(p_.heads.size());
    if (chunks_of_slice_ == 0) {
      for (std::int64_t s = 0; s < slices; ++s) {
        begin_slice(s);
        sink_.end_slice(sums_);
      }
      return report_;
    }
    const std::int64_t count = slices * chunks_of_slice_;
    Team team(plan_.cuda.devices, plan_.cuda.lanes, p_.stream, p_.weights.device >= 0 || p_.mask.tensor.device >= 0);
    OrderedTasks<FilterResult<Weight>> tasks(count, team.size(), control_);
    tasks.run([&](std::int64_t n, int worker, const Poll& poll,
                  FilterResult<Weight>& result) { work(n, team.lane(worker), poll, result); },
              [&](std::int64_t n, FilterResult<Weight>& result) { commit(n, result); },
              [count](std::int64_t done) { return static_cast<double>(done) / static_cast<double>(count); });
    return report_;
  }

  bool began() const { return began_; }

 private:
  std::int64_t batch_of(std::int64_t slice) const { return slice / static_cast<std::int64_t>(p_.heads.size()); }
  std::int64_t head_of(std::int64_t slice) const { return p_.heads[idx(slice) % p_.heads.size()]; }
  std::int64_t begin_of(std::int64_t n) const { return p_.query_begin + n % chunks_of_slice_ * step_; }
  std::int64_t end_of(std::int64_t n) const { return std::min(begin_of(n) + step_, p_.query_end); }
  bool selects() const { return p_.selection.top_k > 0 || p_.selection.mass > 0; }

  void work(std::int64_t n, Lane& lane, const Poll& poll, FilterResult<Weight>& result) {
    const CurrentDevice current(lane.device());
    try {
      filter_chunk(n / chunks_of_slice_, begin_of(n), end_of(n) - begin_of(n), lane, poll, result);
    } catch (...) {
      lane.settle();  // the result's memory must not be written to any more
      throw;
    }
  }

  void filter_chunk(std::int64_t slice, std::int64_t begin, std::int64_t rows, Lane& lane, const Poll& poll,
                    FilterResult<Weight>& result) {
    const std::int64_t batch = batch_of(slice), head = head_of(slice);
    const cudaStream_t stream = lane.stream();
    const SettledLane before_they_go(lane);
    result.skipped = 0;
    MatrixChunk chunk;
    chunk.heads = 1;
    chunk.queries = rows;
    chunk.keys = p_.keys();
    chunk.threshold = p_.selection.threshold;
    chunk.entropy = p_.stats.entropy;
    chunk.mask.causal = p_.mask.causal ? 1 : 0;
    chunk.mask.query_offset = p_.mask.query_offset + begin;
    chunk.mask.window = p_.mask.window;
    chunk.mask.key_count = p_.mask.key_count(batch, p_.keys());
    const BlockRange block{batch, head, 1, begin, rows, p_.keys()};
    const DeviceTensor weights = device_tensor(p_.weights, block, lane, poll);
    chunk.weights = weights.tensor;
    DeviceTensor mask;
    if (p_.mask.tensor) {
      mask = device_tensor(p_.mask.tensor, block, lane, poll);
      chunk.mask.tensor = mask.tensor;
    }
    DeviceBuffer<std::int64_t> d_head(1, stream);
    cuda_check(cudaMemsetAsync(d_head.data(), 0, d_head.bytes(), stream), "heads");
    chunk.head_ids = d_head.data();

    DeviceBuffer<double> d_figures(4 * rows, stream);
    DeviceBuffer<std::int32_t> d_max_keys(rows, stream);
    DeviceBuffer<std::int64_t> d_offsets(rows + 1, stream);
    RowResults results;
    results.logsumexp = d_figures.data();
    results.maximum = d_figures.data() + rows;
    results.kept_mass = d_figures.data() + 2 * rows;
    results.entropy = p_.stats.entropy ? d_figures.data() + 3 * rows : nullptr;
    results.max_key = d_max_keys.data();
    results.offsets = d_offsets.data();

    result.sums = sums_of(begin, rows);
    const auto columns = static_cast<std::int64_t>(result.sums.received.size());
    const auto distances = static_cast<std::int64_t>(result.sums.distances.size());
    DeviceBuffer<double> d_sums(columns + distances, stream);
    if (d_sums.size() > 0) cuda_check(cudaMemsetAsync(d_sums.data(), 0, d_sums.bytes(), stream), "clearing the sums");
    MatrixSums sums;
    sums.received = columns > 0 ? d_sums.data() : nullptr;
    sums.distances = distances > 0 ? d_sums.data() + columns : nullptr;
    sums.distance_begin = result.sums.distance_begin;
    sums.distance_count = distances;

    poll();
    MatrixEdges edges;
    const bool skip = p_.nonfinite == Nonfinite::kSkip;
    const MatrixReport report = filter_matrix(chunk, results, sums, skip, edges, stream);
    if (report.nonfinite > 0 && !skip) {
      fail(Status::kNonfinite,
           "the matrix holds {} at batch {}, head {}, query {}, key {}; clean the input or ask to skip such weights",
           report.first_value, batch, head, begin + report.first_row, report.first_key);
    }
    result.skipped = report.nonfinite;
    download(result.offsets.resize(rows + 1), d_offsets.data(), rows + 1, stream, "offsets");
    download(result.keys.resize(edges.count), edges.keys.data(), edges.count, stream, "edges");
    result.weights.resize(edges.count);
    if constexpr (sizeof(Weight) == 8) {
      download(result.weights.data(), edges.weights_f64.data(), edges.count, stream, "edges");
    } else {
      download(result.weights.data(), edges.weights_f32.data(), edges.count, stream, "edges");
    }
    download(result.figures.resize(4 * rows), d_figures.data(), (p_.stats.entropy ? 4 : 3) * rows, stream,
             "row statistics");
    download(result.max_keys.resize(rows), d_max_keys.data(), rows, stream, "row statistics");
    download(result.sum_values.resize(d_sums.size()), d_sums.data(), d_sums.size(), stream, "sums");
    lane.wait(poll);
    std::copy_n(result.sum_values.data(), columns, result.sums.received.begin());
    std::copy_n(result.sum_values.data() + columns, distances, result.sums.distances.begin());
    if (selects()) select(rows, result);
  }

  void select(std::int64_t rows, FilterResult<Weight>& result) const {
    std::int64_t kept = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t begin = result.offsets[r];
      result.row_edges.clear();
      for (std::int64_t e = begin; e < result.offsets[r + 1]; ++e) {
        result.row_edges.push_back({static_cast<double>(result.weights[e]), result.keys[e]});
      }
      select_row(p_.selection, result.row_edges);
      result.offsets[r] = kept;
      double mass = 0;
      for (const RowEdge& edge : result.row_edges) {
        result.keys[kept] = edge.key;
        result.weights[kept++] = static_cast<Weight>(edge.weight);
        mass += edge.weight;
      }
      result.figures[2 * rows + r] = mass;
    }
    result.offsets[rows] = kept;
  }

  SliceSums sums_of(std::int64_t begin, std::int64_t rows) const {
    Request own;
    own.stats = p_.stats;
    own.mask.query_offset = p_.mask.query_offset;
    own.query_begin = begin;
    own.query_end = begin + rows;
    return empty_sums(own, p_.keys());
  }

  void commit(std::int64_t n, FilterResult<Weight>& result) {
    const std::int64_t rows = end_of(n) - begin_of(n);
    if (begin_of(n) == p_.query_begin) begin_slice(n / chunks_of_slice_);
    const RowStatsView stats = stats_of(rows, result.figures.data(), p_.stats.entropy, result.max_keys.data(), nullptr);
    deliver_rows(sink_, begin_of(n), rows, result.offsets.data(), result.keys.data(), result.weights.data(), stats);
    report_.skipped_nonfinite += result.skipped;
    report_.add_rows(stats, rows);
    add_sums(sums_, result.sums);
    if (end_of(n) == p_.query_end) sink_.end_slice(sums_);
  }

  void begin_slice(std::int64_t slice) {
    began_ = true;
    sink_.begin_slice({{batch_of(slice), p_.layer, head_of(slice)}, p_.query_begin, rows_, p_.keys()},
                      sizeof(Weight) == 8 ? DType::kF64 : DType::kF32);
    sums_ = empty_sums(p_, p_.keys());
  }

  const MatrixProblem& p_;
  const Plan& plan_;
  RowSink& sink_;
  Control& control_;
  const std::int64_t rows_, step_, chunks_of_slice_;
  RunReport report_;
  SliceSums sums_;  // of the slice that is being committed
  bool began_ = false;
};

template <class Weight>
RunReport run_filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) {
  Filter<Weight> filter(problem, plan, sink, control);
  try {
    return filter.run();
  } catch (const Error& error) {
    if (error.status() != Status::kDeviceOutOfMemory || filter.began()) throw;
  }
  return Filter<Weight>(problem, shrunk(plan), sink, control).run();
}

}  // namespace

RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) {
  if (problem.weights.dtype == DType::kF64) return run_filter<double>(problem, plan, sink, control);
  return run_filter<float>(problem, plan, sink, control);
}

}  // namespace ag::cuda
