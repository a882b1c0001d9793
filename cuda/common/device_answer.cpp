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
  void copy_to(T* host, std::size_t count) const {
    if (count > 0) cuda_check(cudaMemcpy(host, data_, count * sizeof(T), cudaMemcpyDeviceToHost), "the graph");
  }

 private:
  std::int64_t size_ = 0;
  T* data_ = nullptr;
};

template <class T>
DeviceBuffer<T> on_device(const std::vector<T>& host, cudaStream_t stream) {
  DeviceBuffer<T> buffer(static_cast<std::int64_t>(host.size()), stream);
  upload_small(buffer.data(), host.data(), buffer.size(), stream, "the graph");
  return buffer;
}

class Graph final : public DeviceGraph {
 public:
  explicit Graph(int on) { device = on; }
  ~Graph() override {
    const int before = use_device(device);
    cudaDeviceSynchronize();  // somebody may still read what is freed now
    offsets_ = {};
    keys_ = {};
    weights_ = {};
    use_device(before);
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

  void copy_to_host(std::int64_t* to_offsets, std::int32_t* to_keys, float* to_weights) const override {
    const CurrentDevice current(device);
    cuda_check(cudaEventSynchronize(ready_.get()), "the graph");
    offsets_.copy_to(to_offsets, rows.size() + 1);
    keys_.copy_to(to_keys, static_cast<std::size_t>(edges));
    weights_.copy_to(to_weights, static_cast<std::size_t>(edges));
  }

 private:
  LastingBuffer<std::int64_t> offsets_;
  LastingBuffer<std::int32_t> keys_;
  LastingBuffer<float> weights_;
  Event ready_;
};

struct HostRows : RowSink {
  void begin_slice(const SliceInfo& slice, DType) override { slices.push_back(slice); }
  void rows(const RowBlock& block) override {
    const std::int64_t base = offsets.back();
    for (std::int64_t r = 1; r <= block.row_count; ++r) offsets.push_back(base + block.offsets[r]);
    const auto* const values = static_cast<const float*>(block.weights);
    keys.insert(keys.end(), block.keys, block.keys + block.edge_count());
    weights.insert(weights.end(), values, values + block.edge_count());
    stats.insert(stats.end(), block.stats, block.stats + block.row_count);
  }
  void end_slice(const SliceSums& of_slice) override { sums.push_back(of_slice); }

  std::vector<SliceInfo> slices;
  std::vector<SliceSums> sums;
  std::vector<RowStats> stats;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> keys;
  std::vector<float> weights;
};

// Batches whose edges never leave the device.
class GraphSink final : public BatchSink {
 public:
  explicit GraphSink(Graph& graph) : graph_(graph) {}

  void no_rows(const ExtractJob& job) override {
    for (const Group& group : job.groups) {
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
    graph_.rows.insert(graph_.rows.end(), result.stats.begin(), result.stats.end());
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
    whole.offsets = DeviceBuffer<std::int64_t>(static_cast<std::int64_t>(graph_.rows.size()) + 1, stream);
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

// Selections that a threshold alone does not make are the host's.
void take_host_rows(Graph& graph, HostRows&& host, int device) {
  Team team({device}, 1, nullptr, false);
  Lane& lane = team.lane(0);
  DeviceEdges edges;
  edges.offsets = on_device(host.offsets, lane.stream());
  edges.keys = on_device(host.keys, lane.stream());
  edges.weights = on_device(host.weights, lane.stream());
  graph.take(std::move(edges));
  graph.slices = std::move(host.slices);
  graph.rows = std::move(host.stats);
  graph.sums = std::move(host.sums);
  graph.ready_after(lane.stream());
  cuda_check(cudaEventSynchronize(graph.ready()), "the graph");
}

}  // namespace

std::unique_ptr<DeviceGraph> extract_on_device(const ScorePass& pass, const Problem& problem, const Plan& plan,
                                               Control& control) {
  const int device = plan.cuda.devices.front();
  const CurrentDevice current(device);
  auto graph = std::make_unique<Graph>(device);
  if (problem.selection.top_k > 0 || problem.selection.mass > 0) {
    HostRows rows;
    graph->report = extract(pass, problem, plan, rows, control);
    take_host_rows(*graph, std::move(rows), device);
    return graph;
  }
  Plan own = plan;
  own.cuda.devices = {device};  // where the answer is wanted
  GraphSink sink(*graph);
  graph->report = extract_batches(pass, problem, own, sink, control, true);
  if (graph->offsets == nullptr) {  // no query was asked for
    HostRows none;
    none.slices = std::move(graph->slices);
    none.sums = std::move(graph->sums);
    take_host_rows(*graph, std::move(none), device);
  }
  return graph;
}

}  // namespace ag::cuda
