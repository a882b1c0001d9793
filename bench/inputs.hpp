// SPDX-License-Identifier: Apache-2.0
// Queries and keys for the benchmarks: synthetic ones of any size, and those of a real model when they are there.
#pragma once

#include <attngraph/attngraph.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ag::bench {

// One head of Gaussian queries and keys whose softmax has the shape that models give it: a first key that every query
// looks at, a few long keys, a group of related keys that each query looks for, and a broad rest. Rows have about ten
// edges at t = 0.01, at any length; the benchmarks print the density.
class QkInput {
 public:
  QkInput(std::int64_t n, std::int64_t head_dim, attngraph_dtype dtype, std::uint64_t seed = 42);

  attngraph::tensor q() const { return {q_.data(), dtype_, {n_, head_dim_}}; }
  attngraph::tensor k() const { return {k_.data(), dtype_, {n_, head_dim_}}; }
  std::int64_t input_bytes() const { return static_cast<std::int64_t>(q_.size() + k_.size()); }

 private:
  std::int64_t n_, head_dim_;
  attngraph_dtype dtype_;
  std::vector<std::byte> q_, k_;
};

// A ready attention matrix [n, n]: softmax of such queries and keys, D = 64, every key visible.
class MatrixInput {
 public:
  MatrixInput(std::int64_t n, attngraph_dtype dtype, std::uint64_t seed = 42);

  attngraph::tensor weights() const { return {weights_.data(), dtype_, {n_, n_}}; }
  std::int64_t input_bytes() const { return static_cast<std::int64_t>(weights_.size()); }

 private:
  std::int64_t n_;
  attngraph_dtype dtype_;
  std::vector<std::byte> weights_;
};

// genesis-8k.safetensors: environment variable ATTNGRAPH_GENESIS_8K, or shared/data beside the project's folder.
std::optional<std::string> find_genesis_8k();

const char* dtype_name(attngraph_dtype dtype);
std::size_t dtype_size(attngraph_dtype dtype);
std::optional<attngraph_dtype> dtype_of_name(const std::string& name);

}  // namespace ag::bench
