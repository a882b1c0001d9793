// SPDX-License-Identifier: Apache-2.0
// A chunk of a ready matrix to edges, statistics and sums: exactly what plain loops say.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "../../cuda/matrix/matrix_filter.hpp"
#include "core/edge_rule.hpp"
#include "core/numbers.hpp"
#include "device_problem.hpp"
#include "support/inputs.hpp"
#include "support/random.hpp"
#include "support/samples.hpp"
#include "support/tensor.hpp"

namespace ag::test {
namespace {

// What is asked of one batch's heads and queries.
struct Question {
  TensorView weights;  // [1, H, Nq, Nk]
  std::vector<std::int64_t> heads;
  std::int64_t query_begin = 0, query_end = 0;
  MaskRules mask;
  double threshold = 0;
  bool entropy = true;
  bool skip_nonfinite = false;

  std::int64_t keys() const { return weights.shape[3]; }
  std::int64_t queries() const { return query_end - query_begin; }
  std::int64_t distance_begin() const { return query_begin + mask.query_offset - (keys() - 1); }
  std::int64_t distance_count() const { return queries() + keys() - 1; }
};

Question ask(const Tensor& weights, double threshold) {
  Question q;
  q.weights = weights.view();
  for (std::int64_t h = 0; h < q.weights.shape[1]; ++h) q.heads.push_back(h);
  q.query_end = q.weights.shape[2];
  q.threshold = threshold;
  return q;
}

struct Filtered {
  cuda::MatrixReport report;
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> keys, max_key;
  std::vector<double> weights;
  std::vector<double> logsumexp, maximum, kept_mass, entropy;
  std::vector<double> received, distances;  // [heads][...]
};

Filtered run(const Question& q) {
  const DeviceTensor weights(q.weights), mask(q.mask.tensor);
  const std::int64_t heads = static_cast<std::int64_t>(q.heads.size()), rows = heads * q.queries();
  const DeviceArray<std::int64_t> ids(q.heads);
  ResultArrays arrays(rows);
  cuda::MatrixChunk chunk;
  chunk.heads = heads;
  chunk.query_begin = q.query_begin;
  chunk.queries = q.queries();
  chunk.keys = q.keys();
  chunk.head_ids = ids.data();
  // The heads of a question follow each other with one step, so that a chunk's own strides can say where they are.
  const std::int64_t step = heads > 1 ? q.heads[1] - q.heads[0] : 1;
  chunk.weights = weights.of_batch(0, q.heads.empty() ? 0 : q.heads[0]);
  chunk.weights.dtype = static_cast<std::int32_t>(q.weights.dtype);
  const auto bytes = static_cast<std::int64_t>(size_of(q.weights.dtype));
  chunk.weights.data = static_cast<const std::byte*>(chunk.weights.data) + q.query_begin * q.weights.strides[2] * bytes;
  chunk.weights.stride_head *= step;
  chunk.mask.causal = q.mask.causal;
  chunk.mask.query_offset = q.mask.query_offset;
  chunk.mask.window = q.mask.window;
  chunk.mask.key_count = q.mask.key_count(0, q.keys());
  chunk.mask.tensor = mask.of_batch(0);
  chunk.threshold = q.threshold;
  chunk.entropy = q.entropy;
  DeviceArray<double> received(std::vector<double>(idx(heads * q.keys()), 0.0));
  DeviceArray<double> distances(std::vector<double>(idx(heads * q.distance_count()), 0.0));
  cuda::MatrixSums sums;
  sums.received = received.data();
  sums.distances = distances.data();
  sums.distance_begin = q.distance_begin();
  sums.distance_count = q.distance_count();

  Filtered a;
  cuda::MatrixEdges edges;
  a.report = cuda::filter_matrix(chunk, arrays.results, sums, q.skip_nonfinite, edges, kDefaultStream);
  wait_for_device();
  a.offsets = arrays.offsets.download();
  a.max_key = arrays.max_key.download();
  a.logsumexp = arrays.logsumexp.download();
  a.maximum = arrays.maximum.download();
  a.kept_mass = arrays.kept_mass.download();
  if (q.entropy) a.entropy = arrays.entropy.download();
  a.keys.resize(idx(edges.count));
  a.weights.resize(idx(edges.count));
  if (edges.count > 0) {
    cuda_ok(cudaMemcpy(a.keys.data(), edges.keys.data(), edges.keys.bytes(), cudaMemcpyDeviceToHost));
    if (edges.weights_f64.size() > 0) {
      cuda_ok(
          cudaMemcpy(a.weights.data(), edges.weights_f64.data(), edges.weights_f64.bytes(), cudaMemcpyDeviceToHost));
    } else {
      std::vector<float> narrow(idx(edges.count));
      cuda_ok(cudaMemcpy(narrow.data(), edges.weights_f32.data(), edges.weights_f32.bytes(), cudaMemcpyDeviceToHost));
      std::copy(narrow.begin(), narrow.end(), a.weights.begin());
    }
  }
  a.received = received.download();
  a.distances = distances.download();
  return a;
}

void expect_close(double actual, double expected, const char* what) {
  EXPECT_TRUE(actual == expected || (std::isnan(actual) && std::isnan(expected)) ||
              std::abs(actual - expected) <= 1e-12 * (1 + std::abs(expected)))
      << what << " " << actual << ", expected " << expected;
}

void expect_right(const Question& q, const Filtered& a) {
  std::int64_t edge = 0, nonfinite = 0;
  std::vector<double> received(a.received.size(), 0.0), distances(a.distances.size(), 0.0);
  for (std::size_t g = 0; g < q.heads.size(); ++g) {
    for (std::int64_t i = q.query_begin; i < q.query_end; ++i) {
      const std::size_t r = g * idx(q.queries()) + idx(i - q.query_begin);
      SCOPED_TRACE(fmt::format("head {}, query {}", q.heads[g], i));
      double sum = 0, entropy = 0, kept = 0, maximum = -HUGE_VAL;
      std::int64_t max_key = -1;
      EXPECT_EQ(a.offsets[r], edge);
      const KeyRange range = q.mask.range(0, i, q.keys());
      for (std::int64_t j = range.begin; j < range.end; ++j) {
        const TensorView& mask = q.mask.tensor;
        if (mask && std::isinf(mask_bias(mask.dtype, mask.at(0, q.heads[g], i, j)))) continue;
        const double w = load_double(q.weights.dtype, q.weights.at(0, q.heads[g], i, j));
        if (!std::isfinite(w)) {
          ++nonfinite;
          continue;
        }
        if (w > maximum) {
          maximum = w;
          max_key = j;
        }
        sum += w;
        if (w > 0) entropy -= w * std::log(w);
        received[g * idx(q.keys()) + idx(j)] += w;
        distances[g * idx(q.distance_count()) + idx(i + q.mask.query_offset - j - q.distance_begin())] += w;
        if (q.threshold != 0 && !is_matrix_edge(w, q.threshold)) continue;
        ASSERT_LT(idx(edge), a.keys.size());
        EXPECT_EQ(a.keys[idx(edge)], j);
        EXPECT_EQ(a.weights[idx(edge)], w);
        kept += w;
        ++edge;
      }
      EXPECT_EQ(a.max_key[r], max_key);
      EXPECT_EQ(a.maximum[r], maximum);
      expect_close(a.kept_mass[r], kept, "kept mass");
      if (max_key < 0) {
        EXPECT_EQ(a.logsumexp[r], -HUGE_VAL);
      } else {
        expect_close(a.logsumexp[r], std::log(sum), "logsumexp");
      }
      if (q.entropy) expect_close(a.entropy[r], entropy, "entropy");
    }
  }
  EXPECT_EQ(a.offsets.back(), edge);
  EXPECT_EQ(idx(edge), a.keys.size());
  EXPECT_EQ(a.report.nonfinite, nonfinite);
  for (std::size_t n = 0; n < received.size(); ++n) expect_close(a.received[n], received[n], "received");
  for (std::size_t n = 0; n < distances.size(); ++n) expect_close(a.distances[n], distances[n], "distance");
}

// The same in every order of threads, NaN included.
void expect_same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t n = 0; n < a.size(); ++n) {
    EXPECT_TRUE(a[n] == b[n] || (std::isnan(a[n]) && std::isnan(b[n]))) << a[n] << " and " << b[n];
  }
}

void check(const Question& q) {
  std::optional<Filtered> first;
  for_every_schedule([&] {
    const Filtered a = run(q);
    expect_right(q, a);
    if (first) {
      expect_same_bits(a.logsumexp, first->logsumexp);
      expect_same_bits(a.kept_mass, first->kept_mass);
      expect_same_bits(a.entropy, first->entropy);
      expect_same_bits(a.received, first->received);
    }
    first = a;
  });
}

// Positive weights, a few large ones.
std::vector<double> some_weights(std::int64_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<double> w(idx(n));
  for (double& x : w) x = std::exp(3 * random.normal() - 5);
  return w;
}

TEST(FilterMatrix, EveryTypeAndLayout) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (const Storage storage : {Storage::kRowMajor, Storage::kTokensOutside, Storage::kDimensionOutside,
                                  Storage::kReversed, Storage::kPadded}) {
      SCOPED_TRACE(fmt::format("{} storage {}", name_of(dtype), static_cast<int>(storage)));
      const Tensor weights(dtype, {1, 3, 6, 77}, some_weights(3 * 6 * 77, 1), layout_of(storage));
      check(ask(weights, 0.05));
    }
  }
}

TEST(FilterMatrix, RowsOfEveryLength) {
  for (const std::int64_t keys : {1, 31, 32, 33, 128, 129, 1024, 1025, 2500, 9000}) {
    SCOPED_TRACE(fmt::format("{} keys", keys));
    const Tensor weights(DType::kF32, {1, 1, 3, keys}, some_weights(3 * keys, 2));
    check(ask(weights, 0.1));
  }
}

TEST(FilterMatrix, AThresholdThatIsAStoredValueOrItsNeighbour) {
  const Tensor weights(DType::kF32, {1, 1, 4, 300}, some_weights(1200, 3));
  for (const std::size_t n : {5u, 400u, 1100u}) {
    const double value = weights.value(n);
    for (const double t : {value, std::nextafter(value, 0.0), std::nextafter(value, 1.0)}) check(ask(weights, t));
  }
}

TEST(FilterMatrix, MaskRulesAndPartsOfTheQueries) {
  const Tensor weights(DType::kF16, {1, 6, 40, 90}, some_weights(6 * 40 * 90, 4));
  Question q = ask(weights, 0.02);
  q.heads = {1, 3, 5};
  q.query_begin = 7;
  q.query_end = 33;
  q.mask.causal = true;
  q.mask.query_offset = 20;
  check(q);
  q.mask.window = 11;
  check(q);
  q.mask.causal = false;
  q.mask.key_lengths = {61};
  check(q);
}

TEST(FilterMatrix, MaskTensors) {
  const Tensor weights(DType::kF32, {1, 2, 5, 140}, some_weights(1400, 5));
  for (const DType dtype : {DType::kBool, DType::kF32, DType::kBF16}) {
    std::vector<double> values(1400);
    for (std::size_t n = 0; n < values.size(); ++n) {
      values[n] = dtype == DType::kBool ? (n % 3 != 0) : n % 3 == 0 ? lowest_of(dtype) : n % 5 == 0 ? -HUGE_VAL : 0.25;
    }
    const Tensor mask(dtype, {1, 2, 5, 140}, values);
    Question q = ask(weights, 0.03);
    q.mask.tensor = mask.view();
    check(q);
  }
}

TEST(FilterMatrix, NoThresholdKeepsNegativeWeightsToo) {
  std::vector<double> values = some_weights(600, 6);
  for (std::size_t n = 0; n < values.size(); n += 4) values[n] = -values[n];
  const Tensor weights(DType::kF64, {1, 1, 4, 150}, values);
  check(ask(weights, 0));
}

TEST(FilterMatrix, RowsOfZerosAndNegativeSums) {
  std::vector<double> values(3 * 50, 0.0);
  for (std::size_t n = 50; n < 100; ++n) values[n] = -0.5;
  values[110] = 1;
  const Tensor weights(DType::kF32, {1, 1, 3, 50}, values);
  check(ask(weights, 0.5));
}

TEST(FilterMatrix, NonfiniteEntriesAreSkippedOrReported) {
  std::vector<double> values = some_weights(2 * 5 * 70, 7);
  values[70 + 12] = std::numeric_limits<double>::quiet_NaN();  // head 0, query 1, key 12
  values[70 + 60] = HUGE_VAL;
  values[5 * 70 + 3 * 70 + 69] = -HUGE_VAL;  // head 1, query 3, key 69
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    const Tensor weights(dtype, {1, 2, 5, 70}, values);
    Question q = ask(weights, 0.05);
    q.skip_nonfinite = true;
    check(q);
    q.skip_nonfinite = false;
    for_every_schedule([&] {
      const Filtered a = run(q);
      EXPECT_EQ(a.report.nonfinite, 3);
      EXPECT_EQ(a.report.first_row, 1);
      EXPECT_EQ(a.report.first_key, 12);
      EXPECT_TRUE(std::isnan(a.report.first_value));
      EXPECT_TRUE(a.keys.empty());
    });
    q.mask.causal = true;  // masked entries may be anything: only infinity at head 1, query 3 + offset is seen
    q.mask.query_offset = 66;
    q.query_begin = 2;
    const Filtered a = run(q);
    EXPECT_EQ(a.report.nonfinite, 1);
    EXPECT_EQ(a.report.first_row, 3 + 1);
    EXPECT_EQ(a.report.first_key, 69);
    EXPECT_EQ(a.report.first_value, -HUGE_VAL);
  }
}

TEST(FilterMatrix, EmptyMatrices) {
  for (const std::int64_t keys : {0, 10}) {
    const Tensor weights(DType::kF32, {1, 2, keys == 0 ? 3 : 0, keys}, {});
    check(ask(weights, 0.1));
  }
}

TEST(FilterMatrix, TheWeightsThatAModelComputed) {
  const auto file = open_sample("genesis-256-weights.safetensors");
  Question q;
  q.weights = with_leading_ones(file->read("softmax.12"), 4);
  q.query_end = 256;
  q.threshold = 0.01;
  q.mask.causal = true;
  std::int64_t edges = 0;
  for (std::int64_t h = 0; h < 9; ++h) {
    q.heads = {h};
    const Filtered a = run(q);
    expect_right(q, a);
    edges += a.offsets.back();
  }
  EXPECT_EQ(edges, 23727);
}

}  // namespace
}  // namespace ag::test
