// SPDX-License-Identifier: Apache-2.0
#include "inputs.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "support/random.hpp"
#include "support/rounding.hpp"

namespace ag::bench {
namespace {

struct DTypeRow {
  attngraph_dtype dtype;
  const char* name;
  DType internal;
};
constexpr DTypeRow kDTypes[] = {{ATTNGRAPH_F64, "f64", DType::kF64},
                                {ATTNGRAPH_F32, "f32", DType::kF32},
                                {ATTNGRAPH_F16, "f16", DType::kF16},
                                {ATTNGRAPH_BF16, "bf16", DType::kBF16}};

const DTypeRow& row_of(attngraph_dtype dtype) {
  return *std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](const DTypeRow& r) { return r.dtype == dtype; });
}

std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

std::vector<std::byte> stored(const std::vector<float>& values, attngraph_dtype dtype) {
  const std::size_t size = dtype_size(dtype);
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i)
    test::store_rounded(row_of(dtype).internal, static_cast<double>(values[i]), bytes.data() + i * size);
  return bytes;
}

struct QkValues {
  std::vector<float> q, k;
};

// Keys come in groups around common centres, as tokens of one kind do; a query looks for one group. Looking for
// unrelated keys one by one would raise all its other scores as well.
QkValues make_qk(std::int64_t n, std::int64_t head_dim, std::uint64_t seed) {
  constexpr std::int64_t kGroupSize = 16;
  constexpr std::int64_t kLongKeys = 64;         // one key in so many is longer
  constexpr double kLength = 1.5;                // by this factor
  constexpr double kCentre = 0.8, kNoise = 0.6;  // of a key; the squares add up to 1
  test::Random random(seed);
  const std::size_t d = idx(head_dim);
  const double root = std::sqrt(static_cast<double>(head_dim));
  const auto normals = [&](std::int64_t rows) {
    std::vector<float> values(idx(rows) * d);
    for (float& x : values) x = static_cast<float>(random.normal());
    return values;
  };
  const std::int64_t groups = std::max<std::int64_t>(1, n / kGroupSize);
  const std::vector<float> centres = normals(groups);
  QkValues v{normals(n), normals(n)};
  for (std::size_t j = 0; j < idx(n); ++j) {
    const double length = random.below(kLongKeys) == 0 ? kLength : 1;
    const float* centre = centres.data() + j % idx(groups) * d;
    for (std::size_t c = 0; c < d; ++c) {
      float& x = v.k[j * d + c];
      x = static_cast<float>(length * (kCentre * static_cast<double>(centre[c]) + kNoise * static_cast<double>(x)));
    }
  }
  // Scores that weigh about 0.01 to 0.1 in a row of n keys, whatever n is.
  const double rest = std::log(static_cast<double>(n));
  const auto look_for = [&](std::size_t i, const float* what, double score) {
    const auto factor = static_cast<float>(score / root);
    for (std::size_t c = 0; c < d; ++c) v.q[i * d + c] += factor * what[c];
  };
  for (std::size_t i = 0; i < idx(n); ++i) {
    look_for(i, v.k.data(), rest - 1);
    const float* sought = centres.data() + idx(random.below(groups)) * d;
    look_for(i, sought, (rest - 3.5 + 3.5 * random.uniform()) / kCentre);
  }
  return v;
}

}  // namespace

const char* dtype_name(attngraph_dtype dtype) { return row_of(dtype).name; }
std::size_t dtype_size(attngraph_dtype dtype) { return size_of(row_of(dtype).internal); }
std::optional<attngraph_dtype> dtype_of_name(const std::string& name) {
  for (const DTypeRow& row : kDTypes) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}

QkInput::QkInput(std::int64_t n, std::int64_t head_dim, attngraph_dtype dtype, std::uint64_t seed)
    : n_(n), head_dim_(head_dim), dtype_(dtype) {
  const QkValues values = make_qk(n, head_dim, seed);
  q_ = stored(values.q, dtype);
  k_ = stored(values.k, dtype);
}

MatrixInput::MatrixInput(std::int64_t n, attngraph_dtype dtype, std::uint64_t seed) : n_(n), dtype_(dtype) {
  constexpr std::int64_t kHeadDim = 64;
  const QkValues values = make_qk(n, kHeadDim, seed);
  std::vector<float> columns(values.k.size());  // K transposed, so that the inner loop runs along keys
  for (std::size_t j = 0; j < idx(n); ++j) {
    for (std::size_t c = 0; c < idx(kHeadDim); ++c) columns[c * idx(n) + j] = values.k[j * idx(kHeadDim) + c];
  }
  const std::size_t row_bytes = idx(n) * dtype_size(dtype);
  weights_.resize(idx(n) * row_bytes);
  std::vector<float> row(idx(n));
  for (std::size_t i = 0; i < idx(n); ++i) {
    std::fill(row.begin(), row.end(), 0.0f);
    for (std::size_t c = 0; c < idx(kHeadDim); ++c) {
      const float q = values.q[i * idx(kHeadDim) + c] / std::sqrt(static_cast<float>(kHeadDim));
      const float* column = columns.data() + c * idx(n);
      for (std::size_t j = 0; j < idx(n); ++j) row[j] += q * column[j];
    }
    const float maximum = row.empty() ? 0 : *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (float& x : row) sum += static_cast<double>(x = std::exp(x - maximum));
    for (std::size_t j = 0; j < idx(n); ++j)
      test::store_rounded(row_of(dtype).internal, static_cast<double>(row[j]) / sum,
                          weights_.data() + i * row_bytes + j * dtype_size(dtype));
  }
}

std::optional<std::string> find_genesis_8k() {
  if (const char* given = std::getenv("ATTNGRAPH_GENESIS_8K"); given != nullptr && *given != '\0') return given;
  const std::string beside = ATTNGRAPH_SOURCE_DIR "/../shared/data/genesis-8k.safetensors";
  if (std::filesystem::exists(beside)) return beside;
  return std::nullopt;
}

}  // namespace ag::bench
