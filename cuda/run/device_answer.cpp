// SPDX-License-Identifier: Apache-2.0
#include "device_answer.hpp"

#include <utility>

#include "batch_run.hpp"
#include "extract.hpp"
#include "lane.hpp"
#include "row_delivery.hpp"
#include "team.hpp"

namespace ag::cuda {
namespace {

// Device memory that outlives every stream.
template <class T>
class LastingBuffer {
 public:
  LastingBuffer() = default;
  explicit LastingBuffer(DeviceBuffer<T>&& made) : size_(made.size()), data_(made.release()) {}
  LastingBuffer(LastingBuffer&& other) noexcept
      : size_(std::exchange(other.size_, 0)), data_(std::exchange(other.data_, nullptr)) {}
  LastingBuffer& operator=(LastingBuffer&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~LastingBuffer() {
    if (data_ != nullptr) cudaFree(data_);
  }

  T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  void copy_to(T* host, std::size_t count, std::size_t first = 0) const {
    if (count > 0) cuda_check(cudaMemcpy(host, data_ + first, count * sizeof(T), cudaMemcpyDeviceToHost), "the graph");
  }

 private:
  std::int64_t size_ = 0;
  T* data_ = nullptr;
};

class Graph final : public DeviceGraph {
 public:
  explicit Graph(int on) { device = on; }
  ~Graph() override {
    const int before = use_device(device);
    cudaDeviceSynchronize();  // somebody may still read what is freed now
    offsets_ = {};
    keys_ = {};
    weights_ = {};
    rows_.clear();
    use_device(before);
  }
  void take_rows(DeviceRows&& made) {
    row_count += made.max_keys.size();
    rows_.push_back(
        {LastingBuffer<double>(std::move(made.figures)), LastingBuffer<std::int32_t>(std::move(made.max_keys))});
  }
  void take(DeviceEdges&& made) {
    offsets_ = LastingBuffer<std::int64_t>(std::move(made.offsets));
    keys_ = LastingBuffer<std::int32_t>(std::move(made.keys));
    weights_ = LastingBuffer<float>(std::move(made.weights));
    offsets = offsets_.data();
    keys = keys_.data();
    weights = weights_.data();
    edges = keys_.size();
  }
  void ready_after(cudaStream_t stream) { ready_.record(stream); }
  cudaEvent_t ready() const { return ready_.get(); }

  void wait(void* stream) const override {
    const CurrentDevice current(device);
    if (stream == nullptr) {
      cuda_check(cudaEventSynchronize(ready_.get()), "the graph");
    } else {
      cuda_check(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), ready_.get(), 0), "the stream given to wait");
    }
  }

  void copy_to_host(std::int64_t* to_offsets, std::int32_t* to_keys, float* to_weights) const override {
    const CurrentDevice current(device);
    cuda_check(cudaEventSynchronize(ready_.get()), "the graph");
    offsets_.copy_to(to_offsets, static_cast<std::size_t>(row_count) + 1);
    keys_.copy_to(to_keys, static_cast<std::size_t>(edges));
    weights_.copy_to(to_weights, static_cast<std::size_t>(edges));
  }

  RowColumns row_stats() const override {
    const CurrentDevice current(device);
    cuda_check(cudaEventSynchronize(ready_.get()), "the graph");
    RowColumns stats;
    for (auto* const column : {&stats.logsumexp, &stats.maximum, &stats.kept_mass})
      column->resize(static_cast<std::size_t>(row_count));
    stats.entropy.resize(static_cast<std::size_t>(row_count), kNaN);
    stats.max_key.resize(static_cast<std::size_t>(row_count));
    std::size_t row = 0;
    for (const Rows& part : rows_) {
      const auto count = static_cast<std::size_t>(part.max_keys.size());
      part.figures.copy_to(stats.logsumexp.data() + row, count);
      part.figures.copy_to(stats.maximum.data() + row, count, count);
      part.figures.copy_to(stats.kept_mass.data() + row, count, 2 * count);
      if (static_cast<std::size_t>(part.figures.size()) > 3 * count)
        part.figures.copy_to(stats.entropy.data() + row, count, 3 * count);
      part.max_keys.copy_to(stats.max_key.data() + row, count);
      row += count;
    }
    return stats;
  }

 private:
  struct Rows {
    LastingBuffer<double> figures;
    LastingBuffer<std::int32_t> max_keys;
  };

  LastingBuffer<std::int64_t> offsets_;
  LastingBuffer<std::int32_t> keys_;
  LastingBuffer<float> weights_;
  std::vector<Rows> rows_;  // of one batch after the other
  Event ready_;
};

// Batches whose edges never leave the device.
class GraphSink final : public BatchSink {
 public:
  explicit GraphSink(Graph& graph) : graph_(graph) {}

  void no_rows(const ExtractJob& job) override {
    for (const HeadGroup& group : job.groups) {
      for (const std::int64_t head : group.heads) begin_slice(job.problem, group.batch, head);
    }
  }

  void batch(const ExtractJob& job, std::span<const ChunkSpan> spans, BatchResult& result) override {
    const Problem& p = job.problem;
    std::size_t head = 0;
    for (const ChunkSpan& span : spans) {
      for (std::size_t g = 0; g < span.heads; ++g, ++head) {
        if (span.query_begin == p.query_begin) {
          begin_slice(p, job.group_of(span).batch, job.head_of(span, static_cast<std::int64_t>(g)));
        }
        if (job.wants_sums()) add_sums(graph_.sums.back(), result.sums[head]);
      }
    }
    graph_.take_rows(std::move(result.rows_on_device));
    parts_.push_back(std::move(result.on_device));
  }

  void end(Team& team, const ExtractJob& job) override {
    const CurrentDevice current(graph_.device);
    Lane& lane = team.lane(0);
    if (parts_.size() != 1) join(team, lane.stream());
    graph_.take(std::move(parts_.front()));
    graph_.ready_after(lane.stream());
    if (job.problem.stream == nullptr) {
      cuda_check(cudaEventSynchronize(graph_.ready()), "the graph");
    } else {
      cuda_check(cudaStreamWaitEvent(static_cast<cudaStream_t>(job.problem.stream), graph_.ready(), 0),
                 "cudaStreamWaitEvent on the caller's stream");
    }
  }

 private:
  void begin_slice(const Problem& p, std::int64_t batch, std::int64_t head) {
    graph_.slices.push_back({{batch, p.layer, head}, p.query_begin, p.query_end - p.query_begin, p.keys()});
    graph_.sums.push_back(empty_sums(p, p.keys()));
  }

  // Of several batches one.
  void join(Team& team, cudaStream_t stream) {
    for (int n = 1; n < team.size(); ++n) {
      team.lane(n).mark().record(team.lane(n).stream());
      team.lane(0).come_after(team.lane(n).mark().get());
    }
    DeviceEdges whole;
    std::int64_t edges = 0;
    for (const DeviceEdges& part : parts_) edges += part.keys.size();
    whole.offsets = DeviceBuffer<std::int64_t>(graph_.row_count + 1, stream);
    whole.keys = DeviceBuffer<std::int32_t>(edges, stream);
    whole.weights = DeviceBuffer<float>(edges, stream);
    std::int64_t row = 0, edge = 0;
    const auto copy = [stream](auto* to, const auto& from, std::int64_t count) {
      if (count > 0)
        cuda_check(cudaMemcpyAsync(to, from.data(), static_cast<std::size_t>(count) * sizeof(*to),
                                   cudaMemcpyDeviceToDevice, stream),
                   "the graph");
    };
    if (parts_.empty())
      cuda_check(cudaMemsetAsync(whole.offsets.data(), 0, whole.offsets.bytes(), stream), "the graph");
    for (const DeviceEdges& part : parts_) {
      const std::int64_t rows = part.offsets.size() - 1;
      copy(whole.offsets.data() + row, part.offsets, rows + 1);
      cuda_check(launch_rebase_offsets(whole.offsets.data() + row, rows, edge, stream), "rebase_offsets");
      copy(whole.keys.data() + edge, part.keys, part.keys.size());
      copy(whole.weights.data() + edge, part.weights, part.weights.size());
      row += rows;
      edge += part.keys.size();
    }
    // Parts go back in the order of their own lanes' streams, which do not wait for the copies.
    cuda_check(cudaStreamSynchronize(stream), "the graph");
    parts_.clear();
    parts_.push_back(std::move(whole));
  }

  Graph& graph_;
  std::vector<DeviceEdges> parts_;
};

// No query was asked for: the graph is a lone offset.
void take_no_rows(Graph& graph) {
  Team team({graph.device}, 1, nullptr, false);
  const cudaStream_t stream = team.lane(0).stream();
  DeviceEdges edges;
  edges.offsets = DeviceBuffer<std::int64_t>(1, stream);
  cuda_check(cudaMemsetAsync(edges.offsets.data(), 0, edges.offsets.bytes(), stream), "the graph");
  edges.keys = DeviceBuffer<std::int32_t>(0, stream);
  edges.weights = DeviceBuffer<float>(0, stream);
  graph.take(std::move(edges));
  graph.ready_after(stream);
  cuda_check(cudaEventSynchronize(graph.ready()), "the graph");
}

}  // namespace

std::unique_ptr<DeviceGraph> extract_on_device(const ScorePass& pass, const Problem& problem, const Plan& plan,
                                               Control& control) {
  const int device = plan.cuda.devices.front();
  const CurrentDevice current(device);
  auto graph = std::make_unique<Graph>(device);
  Plan own = plan;
  own.cuda.devices = {device};  // where the answer is wanted
  GraphSink sink(*graph);
  graph->report = extract_batches(pass, problem, own, sink, control, true);
  if (graph->offsets == nullptr) take_no_rows(*graph);
  return graph;
}

}  // namespace ag::cuda
