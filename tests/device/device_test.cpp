// SPDX-License-Identifier: Apache-2.0
// The C interface over CUDA devices, emulated ones: inputs and answers in device memory, streams, and what a failing
// device does to a call, the next one and the process.
#include <attngraph/attngraph.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "emulation/runtime.hpp"

namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kBatch = 2, kHeads = 4, kKeyHeads = 2, kQueries = 70, kKeys = 90, kDim = 24;

// Numbers that make some weights large, the same in every run.
std::vector<float> numbers(std::int64_t count, std::uint32_t seed) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) {
    seed = seed * 1664525u + 1013904223u;
    x = 2.5f * (static_cast<float>(seed >> 8) / 8388608.0f - 1.0f);
  }
  return values;
}

// f16 of a number in [2^-14, 2^16) or 0, cut off.
std::uint16_t half_bits(float x) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &x, 4);
  const auto exponent = static_cast<std::int32_t>(bits >> 23 & 255) - 112;
  const std::uint32_t rest = exponent > 0 ? static_cast<std::uint32_t>(exponent) << 10 | (bits >> 13 & 1023) : 0;
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000) | rest);
}

// A copy in device memory, given back at the end.
class OnDevice {
 public:
  template <class T>
  explicit OnDevice(const std::vector<T>& host, int device = 0) {
    EXPECT_EQ(cudaSetDevice(device), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&data_, host.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

struct Shape {
  std::int64_t sizes[4];
  attngraph_tensor tensor(const void* data, int device = -1) const {
    return {data,
            device < 0 ? ATTNGRAPH_DEVICE_CPU : ATTNGRAPH_DEVICE_CUDA,
            device < 0 ? 0 : device,
            ATTNGRAPH_F32,
            4,
            sizes,
            nullptr};
  }
};
const Shape kQ{{kBatch, kHeads, kQueries, kDim}}, kK{{kBatch, kKeyHeads, kKeys, kDim}};
const Shape kMask{{kBatch, 1, kQueries, kKeys}}, kWeights{{kBatch, kHeads, kQueries, kKeys}};

struct Result {
  attngraph_result* c = nullptr;
  ~Result() { attngraph_result_destroy(c); }
};

// All edges and logsumexps of a result, to compare.
struct Graph {
  std::vector<std::int64_t> counts;
  std::vector<std::int32_t> keys;
  std::vector<float> weights;
  std::vector<double> logsumexp;
  bool operator==(const Graph&) const = default;
};

Graph graph_of(const attngraph_result* result) {
  Graph graph;
  for (std::int64_t s = 0; s < attngraph_result_slice_count(result); ++s) {
    attngraph_csr csr{};
    attngraph_rows rows{};
    EXPECT_EQ(attngraph_result_csr(result, s, &csr), ATTNGRAPH_OK);
    EXPECT_EQ(attngraph_result_rows(result, s, &rows), ATTNGRAPH_OK);
    for (std::int64_t r = 0; r < csr.query_count; ++r) graph.counts.push_back(csr.offsets[r + 1] - csr.offsets[r]);
    graph.keys.insert(graph.keys.end(), csr.keys, csr.keys + csr.edge_count);
    const auto* const weights = static_cast<const float*>(csr.weights);
    graph.weights.insert(graph.weights.end(), weights, weights + csr.edge_count);
    graph.logsumexp.insert(graph.logsumexp.end(), rows.logsumexp, rows.logsumexp + csr.query_count);
  }
  return graph;
}

class Devices : public ::testing::TestWithParam<const char*> {
 protected:
  // Once a process, as a driver does: what the library holds of the runtime would not survive another time. All work
  // waits until something waits for it.
  static void SetUpTestSuite() {
    ag::emu::Settings settings = ag::emu::settings();
    settings.devices = 2;
    settings.order = ag::emu::Order::kDeferred;
    ag::emu::reset_runtime(settings);
  }
  void SetUp() override { make_context("auto"); }
  void TearDown() override {
    attngraph_context_destroy(context_);
    EXPECT_THAT(ag::emu::take_reports(), ::testing::IsEmpty());
  }
  void make_context(const char* device) {
    attngraph_context_destroy(context_);
    context_ = nullptr;
    ASSERT_EQ(attngraph_context_create(&context_, device), ATTNGRAPH_OK) << attngraph_last_error();
  }
  static attngraph_options options() {
    attngraph_options o = ATTNGRAPH_OPTIONS_INIT;
    o.backend = GetParam();
    o.threshold = 0.03;
    o.causal = 1;
    return o;
  }
  Graph extract(const attngraph_tensor& q, const attngraph_tensor& k, const attngraph_options& o) {
    Result result;
    EXPECT_EQ(attngraph_extract(context_, &q, &k, &o, &result.c), ATTNGRAPH_OK) << attngraph_last_error();
    return result.c != nullptr ? graph_of(result.c) : Graph();
  }

  const std::vector<float> q_ = numbers(kBatch * kHeads * kQueries * kDim, 1);
  const std::vector<float> k_ = numbers(kBatch * kKeyHeads * kKeys * kDim, 2);
  attngraph_context* context_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(, Devices, ::testing::Values("cuda_materialised", "cuda_streaming"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(Devices, InputsInDeviceMemoryGiveTheGraphOfHostMemory) {
  const attngraph_options o = options();
  const Graph host = extract(kQ.tensor(q_.data()), kK.tensor(k_.data()), o);
  ASSERT_GT(host.keys.size(), 1000u);
  const OnDevice q(q_), k(k_);
  EXPECT_EQ(extract(kQ.tensor(q.data(), 0), kK.tensor(k.data(), 0), o), host);
  EXPECT_EQ(extract(kQ.tensor(q.data(), 0), kK.tensor(k_.data()), o), host) << "a mixture";
}

// f16 rows that stand as kernels read them are not copied; others, and those of grouped queries, are.
TEST_P(Devices, HalvesInDeviceMemoryGiveTheGraphOfHostMemory) {
  constexpr std::int64_t kD = 32;
  std::vector<std::uint16_t> q, k;
  for (const float x : numbers(kBatch * kHeads * kQueries * kD, 11)) q.push_back(half_bits(x));
  for (const float x : numbers(kBatch * kHeads * kKeys * kD, 12)) k.push_back(half_bits(x));
  const OnDevice d_q(q), d_k(k);
  const std::int64_t q_shape[] = {kBatch, kHeads, kQueries, kD}, k_shape[] = {kBatch, kHeads, kKeys, kD};
  const std::int64_t grouped[] = {kBatch, kKeyHeads, kKeys, kD};
  const std::int64_t apart[] = {kHeads * kKeys * kD, kKeys * kD, kD, 1};
  const auto tensor = [](const void* data, bool on_device, const std::int64_t* shape, const std::int64_t* strides) {
    return attngraph_tensor{
        data, on_device ? ATTNGRAPH_DEVICE_CUDA : ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F16, 4, shape, strides};
  };
  attngraph_options o = options();
  const std::int64_t heads[] = {1, 3}, lengths[] = {kKeys, kKeys - 13};
  for (const int how : {0, 1, 2, 3, 4}) {
    SCOPED_TRACE(how);
    o = options();
    if (how == 1) o.heads = heads, o.head_count = 2;
    if (how == 2) o.query_begin = 16, o.query_end = 60;
    if (how == 3) o.key_lengths = lengths;
    const std::int64_t* const keys = how == 4 ? grouped : k_shape;
    const std::int64_t* const strides = how == 4 ? apart : nullptr;
    const Graph host = extract(tensor(q.data(), false, q_shape, nullptr), tensor(k.data(), false, keys, strides), o);
    ASSERT_GT(host.keys.size(), 300u);
    EXPECT_EQ(extract(tensor(d_q.data(), true, q_shape, nullptr), tensor(d_k.data(), true, keys, strides), o), host);
  }
}

TEST_P(Devices, EveryInputMayBeInDeviceMemory) {
  std::vector<float> mask = numbers(kBatch * kQueries * kKeys, 3);
  for (std::size_t n = 0; n < mask.size(); n += 7) mask[n] = -HUGE_VALF;
  const std::vector<float> sinks = numbers(kBatch * kHeads, 4), lse = numbers(kBatch * kHeads * kQueries, 5);
  const OnDevice q(q_), k(k_), d_mask(mask), d_sinks(sinks), d_lse(lse);
  const std::int64_t sink_shape[] = {kBatch, kHeads}, lse_shape[] = {kBatch, kHeads, kQueries};
  attngraph_options on_host = options(), on_device = options();
  const std::int64_t heads[] = {0, 1, 3};
  on_host.heads = on_device.heads = heads;
  on_host.head_count = on_device.head_count = 3;
  on_host.query_begin = on_device.query_begin = 5;
  on_host.query_end = on_device.query_end = 61;
  const attngraph_tensor host_mask = kMask.tensor(mask.data()), device_mask = kMask.tensor(d_mask.data(), 0);
  on_host.mask = &host_mask;
  on_device.mask = &device_mask;
  attngraph_tensor host_sinks{sinks.data(), ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 2, sink_shape, nullptr};
  attngraph_tensor device_sinks{d_sinks.data(), ATTNGRAPH_DEVICE_CUDA, 0, ATTNGRAPH_F32, 2, sink_shape, nullptr};
  on_host.sinks = &host_sinks;
  on_device.sinks = &device_sinks;
  EXPECT_EQ(extract(kQ.tensor(q.data(), 0), kK.tensor(k.data(), 0), on_device),
            extract(kQ.tensor(q_.data()), kK.tensor(k_.data()), on_host));
  on_host.sinks = on_device.sinks = nullptr;
  attngraph_tensor host_lse{lse.data(), ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 3, lse_shape, nullptr};
  attngraph_tensor device_lse{d_lse.data(), ATTNGRAPH_DEVICE_CUDA, 0, ATTNGRAPH_F32, 3, lse_shape, nullptr};
  on_host.lse = &host_lse;
  on_device.lse = &device_lse;
  EXPECT_EQ(extract(kQ.tensor(q.data(), 0), kK.tensor(k.data(), 0), on_device),
            extract(kQ.tensor(q_.data()), kK.tensor(k_.data()), on_host));
}

TEST_P(Devices, WorkBeginsAfterWhatIsQueuedOnTheCallersStream) {
  attngraph_options o = options();
  const Graph host = extract(kQ.tensor(q_.data()), kK.tensor(k_.data()), o);
  const OnDevice q(numbers(kBatch * kHeads * kQueries * kDim, 9)), k(k_);
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, q_.size() * sizeof(float)), cudaSuccess);
  std::copy(q_.begin(), q_.end(), static_cast<float*>(pinned));
  ASSERT_EQ(cudaMemcpyAsync(q.data(), pinned, q_.size() * sizeof(float), cudaMemcpyHostToDevice, stream), cudaSuccess);
  o.stream = stream;
  EXPECT_EQ(extract(kQ.tensor(q.data(), 0), kK.tensor(k.data(), 0), o), host);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_P(Devices, MemoryOfADeviceIsWorkedOnWhereItIs) {
  const attngraph_options o = options();
  const Graph host = extract(kQ.tensor(q_.data()), kK.tensor(k_.data()), o);
  const OnDevice q(q_, 1), k(k_, 1), elsewhere(k_, 0);
  const std::int64_t before = ag::emu::runtime_counters(0).launches;
  EXPECT_EQ(extract(kQ.tensor(q.data(), 1), kK.tensor(k.data(), 1), o), host);
  EXPECT_EQ(ag::emu::runtime_counters(0).launches, before) << "device 0 has nothing to do with it";

  Result result;
  const attngraph_tensor on_1 = kQ.tensor(q.data(), 1), on_0 = kK.tensor(elsewhere.data(), 0);
  EXPECT_EQ(attngraph_extract(context_, &on_1, &on_0, &o, &result.c), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_THAT(attngraph_last_error(), HasSubstr("k is in the memory of CUDA device 0, but the call works on device 1"));
  cudaStream_t of_0 = nullptr;
  ASSERT_EQ(cudaStreamCreate(&of_0), cudaSuccess);
  attngraph_options on_stream = o;
  on_stream.stream = of_0;
  const attngraph_tensor k_1 = kK.tensor(k.data(), 1);
  EXPECT_EQ(attngraph_extract(context_, &on_1, &k_1, &on_stream, &result.c), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_THAT(attngraph_last_error(), HasSubstr("stream is no stream of CUDA device 1"));
  EXPECT_EQ(cudaStreamDestroy(of_0), cudaSuccess);
  make_context("cuda:0");
  EXPECT_EQ(attngraph_extract(context_, &on_1, &on_1, &o, &result.c), ATTNGRAPH_ERROR_ARGUMENT);
  const attngraph_tensor on_7 = kQ.tensor(q.data(), 7);
  make_context("auto");
  EXPECT_EQ(attngraph_extract(context_, &on_7, &on_7, &o, &result.c), ATTNGRAPH_ERROR_NO_DEVICE);
  EXPECT_THAT(attngraph_last_error(), HasSubstr("no usable CUDA device 7"));
}

TEST_P(Devices, TheCpuReadsNoDeviceMemory) {
  attngraph_options o = options();
  o.backend = "cpu";
  const OnDevice q(q_);
  const attngraph_tensor on_device = kQ.tensor(q.data(), 0), k = kK.tensor(k_.data());
  Result result;
  EXPECT_EQ(attngraph_extract(context_, &on_device, &k, &o, &result.c), ATTNGRAPH_ERROR_UNSUPPORTED);
  EXPECT_THAT(attngraph_last_error(),
              HasSubstr("q is in the memory of CUDA device 0; backend 'cpu' reads host memory"));
}

TEST_P(Devices, AnswersMayStayOnTheDevice) {
  const attngraph_options o = options();
  const attngraph_tensor q = kQ.tensor(q_.data()), k = kK.tensor(k_.data());
  const Graph host = extract(q, k, o);
  attngraph_device_result* left = nullptr;
  ASSERT_EQ(attngraph_extract_on_device(context_, &q, &k, &o, &left), ATTNGRAPH_OK) << attngraph_last_error();
  attngraph_device_csr csr{};
  ASSERT_EQ(attngraph_device_result_csr(left, &csr), ATTNGRAPH_OK);
  EXPECT_EQ(csr.slice_count, kBatch * kHeads);
  ASSERT_EQ(csr.row_count, kBatch * kHeads * kQueries);
  ASSERT_EQ(csr.edge_count, static_cast<std::int64_t>(host.keys.size()));
  cudaPointerAttributes where{};
  ASSERT_EQ(cudaPointerGetAttributes(&where, csr.keys), cudaSuccess);
  EXPECT_EQ(where.type, cudaMemoryTypeDevice);
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(csr.row_count) + 1);
  std::vector<std::int32_t> keys(host.keys.size());
  ASSERT_EQ(cudaMemcpy(offsets.data(), csr.offsets, offsets.size() * 8, cudaMemcpyDeviceToHost), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(keys.data(), csr.keys, keys.size() * 4, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(offsets.front(), 0);
  for (std::size_t r = 0; r < host.counts.size(); ++r) ASSERT_EQ(offsets[r + 1] - offsets[r], host.counts[r]);
  EXPECT_EQ(keys, host.keys);
  Result copy;
  ASSERT_EQ(attngraph_device_result_to_host(left, &copy.c), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(graph_of(copy.c), host);
  EXPECT_STREQ(attngraph_result_metadata(copy.c, "threshold"), "0.03");
  attngraph_report report{};
  ASSERT_EQ(attngraph_result_report(copy.c, &report), ATTNGRAPH_OK);
  EXPECT_STREQ(report.backend, GetParam());
  attngraph_device_result_destroy(left);
  make_context("auto");  // with the old one goes what it kept
  EXPECT_EQ(ag::emu::runtime_counters(0).device_bytes, 0u) << "nothing leaks";

  attngraph_options on_cpu = o;
  on_cpu.backend = "cpu";
  left = nullptr;
  EXPECT_EQ(attngraph_extract_on_device(context_, &q, &k, &on_cpu, &left), ATTNGRAPH_ERROR_UNSUPPORTED);
  EXPECT_EQ(left, nullptr);
}

TEST_P(Devices, AnswersAreReadyInTheOrderOfAStream) {
  attngraph_options o = options();
  const OnDevice d_q(q_), d_k(k_);
  const attngraph_tensor q = kQ.tensor(d_q.data(), 0), k = kK.tensor(d_k.data(), 0);
  const Graph host = extract(q, k, o);
  cudaStream_t made_on = nullptr, reader = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&made_on, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&reader, cudaStreamNonBlocking), cudaSuccess);
  o.stream = made_on;
  for (const bool caller_waits : {false, true}) {
    attngraph_device_result* left = nullptr;
    ASSERT_EQ(attngraph_extract_on_device(context_, &q, &k, &o, &left), ATTNGRAPH_OK) << attngraph_last_error();
    attngraph_device_csr csr{};
    ASSERT_EQ(attngraph_device_result_csr(left, &csr), ATTNGRAPH_OK);
    std::vector<std::int32_t> keys(host.keys.size(), -1);
    ASSERT_EQ(attngraph_device_result_wait(left, caller_waits ? nullptr : reader), ATTNGRAPH_OK);
    ASSERT_EQ(cudaMemcpyAsync(keys.data(), csr.keys, keys.size() * 4, cudaMemcpyDeviceToHost, reader), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(reader), cudaSuccess);
    EXPECT_EQ(keys, host.keys);
    attngraph_device_result_destroy(left);
  }
  EXPECT_EQ(cudaStreamDestroy(made_on), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(reader), cudaSuccess);
  EXPECT_EQ(attngraph_device_result_wait(nullptr, nullptr), ATTNGRAPH_ERROR_ARGUMENT);
}

// Top-k and mass are decided where the edges are.
TEST_P(Devices, SelectedAnswersMayStayOnTheDevice) {
  const OnDevice d_q(q_), d_k(k_);
  const attngraph_tensor q = kQ.tensor(d_q.data(), 0), k = kK.tensor(d_k.data(), 0);
  for (const bool by_mass : {false, true}) {
    attngraph_options o = options();
    o.threshold = by_mass ? 0 : 0.001;
    o.top_k = by_mass ? 0 : 5;
    o.mass = by_mass ? 0.6 : 0;
    const Graph host = extract(q, k, o);
    ASSERT_GT(host.keys.size(), 1000u);
    const std::int64_t before = ag::emu::runtime_counters(0).host_bytes;
    attngraph_device_result* left = nullptr;
    ASSERT_EQ(attngraph_extract_on_device(context_, &q, &k, &o, &left), ATTNGRAPH_OK) << attngraph_last_error();
    constexpr std::int64_t kRows = kBatch * kHeads * kQueries;
    EXPECT_LT(ag::emu::runtime_counters(0).host_bytes - before, kRows * 48 + 16384) << "no edge has left the device";
    Result copy;
    ASSERT_EQ(attngraph_device_result_to_host(left, &copy.c), ATTNGRAPH_OK) << attngraph_last_error();
    EXPECT_EQ(graph_of(copy.c), host);
    attngraph_device_result_destroy(left);
  }
}

// The band of a row is known: few pairs of a threshold stand in it.
TEST_P(Devices, CertifiedDecisionsLookAtFewRowsAgain) {
  attngraph_options o = options();
  o.decision = ATTNGRAPH_DECISION_CERTIFIED;
  const attngraph_tensor q = kQ.tensor(q_.data()), k = kK.tensor(k_.data());
  Result certified, of_cpu;
  ASSERT_EQ(attngraph_extract(context_, &q, &k, &o, &certified.c), ATTNGRAPH_OK) << attngraph_last_error();
  attngraph_report report{};
  ASSERT_EQ(attngraph_result_report(certified.c, &report), ATTNGRAPH_OK);
  EXPECT_STREQ(report.backend, GetParam());
  EXPECT_LE(report.rows_decided_again, kBatch * kHeads * kQueries / 50);
  EXPECT_EQ(report.unresolved, 0);
  o.backend = "cpu";
  ASSERT_EQ(attngraph_extract(context_, &q, &k, &o, &of_cpu.c), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(graph_of(certified.c).keys, graph_of(of_cpu.c).keys);
}

TEST_P(Devices, DenseWeightsAreThoseOfTheEdges) {
  attngraph_options o = options();
  o.threshold = 0;
  o.allow_dense = 1;
  const attngraph_tensor q = kQ.tensor(q_.data()), k = kK.tensor(k_.data());
  std::vector<float> weights(static_cast<std::size_t>(kBatch * kHeads * kQueries * kKeys), -1);
  const attngraph_tensor out = kWeights.tensor(weights.data());
  if (GetParam() == std::string("cuda_streaming")) {
    EXPECT_EQ(attngraph_write_weights(context_, &q, &k, &o, &out), ATTNGRAPH_ERROR_UNSUPPORTED);
    EXPECT_THAT(attngraph_last_error(), HasSubstr("choose cuda_materialised"));
    return;
  }
  ASSERT_EQ(attngraph_write_weights(context_, &q, &k, &o, &out), ATTNGRAPH_OK) << attngraph_last_error();
  const Graph graph = extract(q, k, o);
  std::size_t edge = 0;
  for (std::size_t r = 0; r < graph.counts.size(); ++r) {
    std::vector<float> row(static_cast<std::size_t>(kKeys), 0.0f);
    for (std::int64_t n = 0; n < graph.counts[r]; ++n, ++edge)
      row[static_cast<std::size_t>(graph.keys[edge])] = graph.weights[edge];
    for (std::size_t j = 0; j < row.size(); ++j) {
      ASSERT_NEAR(weights[r * row.size() + j], row[j], 2e-5 * static_cast<double>(row[j]) + 1e-30) << r << ", " << j;
    }
  }
  const OnDevice d_weights(std::vector<float>(weights.size(), -1.0f));
  const attngraph_tensor d_out = kWeights.tensor(d_weights.data(), 0);
  o.query_begin = 10;
  o.query_end = 20;
  ASSERT_EQ(attngraph_write_weights(context_, &q, &k, &o, &d_out), ATTNGRAPH_OK) << attngraph_last_error();
  std::vector<float> part(weights.size());
  ASSERT_EQ(cudaMemcpy(part.data(), d_weights.data(), part.size() * 4, cudaMemcpyDeviceToHost), cudaSuccess);
  for (std::size_t n = 0; n < part.size(); ++n) {
    const auto query = static_cast<std::int64_t>(n) / kKeys % kQueries;
    if (query < 10 || query >= 20) {
      ASSERT_EQ(part[n], -1.0f) << "rows that were not asked for are left as they are";
    } else {
      ASSERT_NEAR(part[n], weights[n], 2e-5 * static_cast<double>(weights[n]) + 1e-30);
    }
  }
  const attngraph_tensor wrong = kMask.tensor(weights.data());
  EXPECT_EQ(attngraph_write_weights(context_, &q, &k, &o, &wrong), ATTNGRAPH_ERROR_SHAPE);
}

TEST_P(Devices, AMatrixInDeviceMemoryIsFilteredThere) {
  attngraph_options o = options();
  o.top_k = 3;
  std::vector<float> weights = numbers(kBatch * kHeads * kQueries * kKeys, 6);
  for (float& w : weights) w = std::abs(w);
  const OnDevice d_weights(weights);
  Graph graphs[2];
  for (const int device : {-1, 0}) {
    const attngraph_tensor matrix =
        kWeights.tensor(device < 0 ? static_cast<const void*>(weights.data()) : d_weights.data(), device);
    Result result;
    ASSERT_EQ(attngraph_filter_matrix(context_, &matrix, &o, &result.c), ATTNGRAPH_OK) << attngraph_last_error();
    graphs[device + 1] = graph_of(result.c);
  }
  EXPECT_GT(graphs[0].keys.size(), 100u);
  EXPECT_EQ(graphs[0], graphs[1]);
}

TEST_P(Devices, NothingLeaksAndTheWorkspaceIsKept) {
  attngraph_options o = options();
  o.stats = ATTNGRAPH_STATS_ENTROPY | ATTNGRAPH_STATS_COLUMNS | ATTNGRAPH_STATS_DISTANCES;
  o.workspace_bytes = 4 << 20;
  make_context("cuda:0");
  ag::emu::reset_peak(0);
  EXPECT_GT(extract(kQ.tensor(q_.data()), kK.tensor(k_.data()), o).keys.size(), 0u);
  make_context("cuda:0");
  EXPECT_EQ(ag::emu::runtime_counters(0).device_bytes, 0u);
  const std::size_t inputs = 2 * 4 * (q_.size() + k_.size());  // as given and as operands
  EXPECT_LE(ag::emu::runtime_counters(0).device_bytes_peak, o.workspace_bytes + 2 * inputs);
}

// What a warm call costs the host, whatever the number of heads: launches, allocations, waits and bytes that travel.
TEST_P(Devices, AWarmCallAllocatesNothingAndWaitsOnce) {
  std::printf("%-18s %5s %-7s %8s %7s %7s %5s %9s\n", "backend", "heads", "answer", "launches", "device", "pinned",
              "waits", "bytes");
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  std::int64_t launches[2] = {0, 0};
  for (const std::int64_t heads : {1, 512}) {
    // Few rows and keys: every chunk costs the emulator a block of each kernel, however small it is.
    constexpr std::int64_t kN = 2, kNk = 20, kD = 16;
    const std::int64_t key_heads = std::max<std::int64_t>(heads / 32, 1);
    const Shape q_shape{{1, heads, kN, kD}}, k_shape{{1, key_heads, kNk, kD}};
    const OnDevice q(numbers(heads * kN * kD, 7)), k(numbers(key_heads * kNk * kD, 8));
    const attngraph_tensor q_tensor = q_shape.tensor(q.data(), 0), k_tensor = k_shape.tensor(k.data(), 0);
    attngraph_options o = options();
    for (const bool on_device : {true, false}) {
      o.stream = on_device ? stream : nullptr;
      ag::emu::RuntimeCounters before, after;
      for (int call = 0; call < 3; ++call) {  // two to grow: results are kept by turns
        before = ag::emu::runtime_counters(0);
        if (on_device) {
          attngraph_device_result* left = nullptr;
          ASSERT_EQ(attngraph_extract_on_device(context_, &q_tensor, &k_tensor, &o, &left), ATTNGRAPH_OK)
              << attngraph_last_error();
          after = ag::emu::runtime_counters(0);
          attngraph_device_result_destroy(left);
        } else {
          Result result;
          ASSERT_EQ(attngraph_extract(context_, &q_tensor, &k_tensor, &o, &result.c), ATTNGRAPH_OK)
              << attngraph_last_error();
          after = ag::emu::runtime_counters(0);
        }
      }
      const std::int64_t device = after.device_allocations - before.device_allocations;
      const std::int64_t pinned = after.host_allocations - before.host_allocations;
      const std::int64_t waits = after.waits - before.waits, bytes = after.host_bytes - before.host_bytes;
      const std::int64_t called = after.launches - before.launches;
      std::printf("%-18s %5lld %-7s %8lld %7lld %7lld %5lld %9lld\n", GetParam(), static_cast<long long>(heads),
                  on_device ? "device" : "host", static_cast<long long>(called), static_cast<long long>(device),
                  static_cast<long long>(pinned), static_cast<long long>(waits), static_cast<long long>(bytes));
      EXPECT_LE(called, 12);
      EXPECT_EQ(device, on_device ? 5 : 0) << "the answer's own: three arrays of edges, two of rows";
      EXPECT_EQ(pinned, 0);
      EXPECT_EQ(waits, on_device ? 1 : 2);
      if (heads == 1) launches[on_device] = called;
      EXPECT_EQ(called, launches[on_device]) << "of one head";
      if (on_device) {  // what is known of the chunks, and the number of edges; nothing of the rows
        EXPECT_LT(bytes, key_heads * 4096 + 4096);
      }
    }
  }
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

// One head of a batch is named, and nothing is lost or left behind.
TEST_P(Devices, NanInOneHeadIsNamed) {
  const attngraph_options o = options();
  std::vector<float> q = q_;
  q[((1 * kHeads + 2) * kQueries + 33) * kDim + 5] = NAN;
  const attngraph_tensor q_tensor = kQ.tensor(q.data()), k_tensor = kK.tensor(k_.data());
  Result result;
  ASSERT_EQ(attngraph_extract(context_, &q_tensor, &k_tensor, &o, &result.c), ATTNGRAPH_ERROR_NONFINITE);
  EXPECT_THAT(attngraph_last_error(), HasSubstr("q holds nan at batch 1, head 2, position 33, dimension 5"));
  std::vector<float> k = k_;
  k[((1 * kKeyHeads + 1) * kKeys + 7) * kDim] = INFINITY;
  const attngraph_tensor bad_keys = kK.tensor(k.data()), good = kQ.tensor(q_.data());
  ASSERT_EQ(attngraph_extract(context_, &good, &bad_keys, &o, &result.c), ATTNGRAPH_ERROR_NONFINITE);
  EXPECT_THAT(attngraph_last_error(), HasSubstr("k holds inf at batch 1, head 1, position 7, dimension 0"));
  make_context("auto");
  EXPECT_EQ(ag::emu::runtime_counters(0).device_bytes, 0u);
}

TEST_P(Devices, AFailureLeavesNothingBehind) {
  const attngraph_options o = options();
  const attngraph_tensor q = kQ.tensor(q_.data()), k = kK.tensor(k_.data());
  const Graph whole = extract(q, k, o);
  for (const std::int64_t n : {1, 5, 20, 40}) {
    SCOPED_TRACE(n);
    ag::emu::Faults faults;
    faults.host_allocation = n;
    ag::emu::inject(faults);
    Result result;
    const attngraph_status status = attngraph_extract(context_, &q, &k, &o, &result.c);
    EXPECT_TRUE(status == ATTNGRAPH_OK || status == ATTNGRAPH_ERROR_OUT_OF_MEMORY) << attngraph_last_error();
    ag::emu::inject({});
    make_context("auto");
    EXPECT_EQ(ag::emu::runtime_counters(0).device_bytes, 0u);
    EXPECT_EQ(ag::emu::runtime_counters(1).device_bytes, 0u);
    EXPECT_EQ(extract(q, k, o), whole) << "the next call is none the worse for it";
  }
}

TEST_P(Devices, NonfiniteValuesInDeviceMemoryAreLocated) {
  const attngraph_options o = options();
  std::vector<float> bad = k_;
  bad[static_cast<std::size_t>(((1 * kKeyHeads + 1) * kKeys + 44) * kDim + 7)] = std::numeric_limits<float>::infinity();
  const OnDevice q(q_), k(bad);
  const attngraph_tensor on_q = kQ.tensor(q.data(), 0), on_k = kK.tensor(k.data(), 0);
  Result result;
  EXPECT_EQ(attngraph_extract(context_, &on_q, &on_k, &o, &result.c), ATTNGRAPH_ERROR_NONFINITE);
  EXPECT_THAT(attngraph_last_error(), HasSubstr("k holds inf at batch 1, head 1, position 44, dimension 7"));
}

TEST_P(Devices, ChildrenOfAProcessThatUsedCudaAreTold) {
  const attngraph_options o = options();
  const attngraph_tensor q = kQ.tensor(q_.data()), k = kK.tensor(k_.data());
  EXPECT_GT(extract(q, k, o).keys.size(), 0u);
  const pid_t child = fork();
  if (child == 0) {
    attngraph_result* result = nullptr;
    const bool told = attngraph_extract(context_, &q, &k, &o, &result) == ATTNGRAPH_ERROR_FORKED &&
                      std::string(attngraph_last_error()).find("forked") != std::string::npos;
    // Nobody chose the device here: the CPU answers.
    attngraph_options any = o;
    any.backend = nullptr;
    const bool answered = attngraph_extract(context_, &q, &k, &any, &result) == ATTNGRAPH_OK;
    _exit(told && answered ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The last one: a lost device does not come back to its process.
TEST(ZLostDevice, StaysLostAndTheCpuAnswersInItsPlace) {
  // Enough for one thread of the CPU that "auto" takes the device.
  const Shape shape{{1, 16, 1024, kDim}};
  const std::vector<float> q = numbers(16 * 1024 * kDim, 1), k = numbers(16 * 1024 * kDim, 2);
  const attngraph_tensor on_q = shape.tensor(q.data()), on_k = shape.tensor(k.data());
  attngraph_context* forced = nullptr;
  attngraph_context* any = nullptr;
  ASSERT_EQ(attngraph_context_create(&forced, "cuda"), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_context_create(&any, "auto"), ATTNGRAPH_OK);
  attngraph_options o = ATTNGRAPH_OPTIONS_INIT;
  o.threads = 1;
  ag::emu::Faults faults;
  faults.launch = 4;
  ag::emu::inject(faults);
  Result first, second, third, fourth;
  ASSERT_EQ(attngraph_extract(any, &on_q, &on_k, &o, &first.c), ATTNGRAPH_OK) << attngraph_last_error();
  attngraph_report report{};
  ASSERT_EQ(attngraph_result_report(first.c, &report), ATTNGRAPH_OK);
  EXPECT_STREQ(report.backend, "cpu");
  EXPECT_THAT(report.note, ::testing::StartsWith("cpu answered because cuda_streaming failed: "));
  ag::emu::inject({});
  for (int n = 0; n < 2; ++n) {
    EXPECT_EQ(attngraph_extract(forced, &on_q, &on_k, &o, &second.c), ATTNGRAPH_ERROR_DEVICE_LOST);
    EXPECT_THAT(attngraph_last_error(), HasSubstr("lost"));
  }
  o.backend = "cuda_materialised";
  EXPECT_EQ(attngraph_extract(any, &on_q, &on_k, &o, &third.c), ATTNGRAPH_ERROR_DEVICE_LOST);
  o.backend = nullptr;
  EXPECT_EQ(attngraph_extract(any, &on_q, &on_k, &o, &fourth.c), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(graph_of(fourth.c), graph_of(first.c));
  attngraph_context_destroy(forced);
  attngraph_context_destroy(any);
  EXPECT_EQ(attngraph_context_create(&forced, "cuda"), ATTNGRAPH_ERROR_DEVICE_LOST);
}

}  // namespace
