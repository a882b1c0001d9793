// SPDX-License-Identifier: Apache-2.0
#include "device_answer.hpp"

#include "extract.hpp"
#include "lane.hpp"

namespace ag::cuda {
namespace {

// Device memory that outlives every stream.
template <class T>
class LastingBuffer {
 public:
  LastingBuffer() = default;
  // A copy of host memory.
  explicit LastingBuffer(const std::vector<T>& host) {
    if (host.empty()) return;
    void* p = nullptr;
    cuda_check(cudaMalloc(&p, host.size() * sizeof(T)), "cudaMalloc");
    data_ = static_cast<T*>(p);
    cuda_check(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "the graph");
  }
  ~LastingBuffer() {
    if (data_ != nullptr) cudaFree(data_);
  }
  LastingBuffer(const LastingBuffer&) = delete;
  LastingBuffer& operator=(const LastingBuffer&) = delete;

  const T* data() const { return data_; }
  void copy_to(T* host, std::size_t count) const {
    if (count > 0) cuda_check(cudaMemcpy(host, data_, count * sizeof(T), cudaMemcpyDeviceToHost), "the graph");
  }

 private:
  T* data_ = nullptr;
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

class Graph final : public DeviceGraph {
 public:
  Graph(HostRows&& host, int on) : offsets_(host.offsets), keys_(host.keys), weights_(host.weights) {
    device = on;
    offsets = offsets_.data();
    keys = keys_.data();
    DeviceGraph::weights = weights_.data();
    edges = host.offsets.back();
    slices = std::move(host.slices);
    rows = std::move(host.stats);
    sums = std::move(host.sums);
  }
  void copy_to_host(std::int64_t* to_offsets, std::int32_t* to_keys, float* to_weights) const override {
    const CurrentDevice current(device);
    offsets_.copy_to(to_offsets, rows.size() + 1);
    keys_.copy_to(to_keys, static_cast<std::size_t>(edges));
    weights_.copy_to(to_weights, static_cast<std::size_t>(edges));
  }

 private:
  LastingBuffer<std::int64_t> offsets_;
  LastingBuffer<std::int32_t> keys_;
  LastingBuffer<float> weights_;
};

}  // namespace

std::unique_ptr<DeviceGraph> extract_on_device(const ScorePass& pass, const Problem& problem, const Plan& plan,
                                               Control& control) {
  HostRows rows;
  const RunReport report = extract(pass, problem, plan, rows, control);
  const CurrentDevice current(plan.cuda.devices.front());
  auto graph = std::make_unique<Graph>(std::move(rows), plan.cuda.devices.front());
  graph->report = report;
  return graph;
}

}  // namespace ag::cuda
