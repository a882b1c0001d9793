// SPDX-License-Identifier: Apache-2.0
// What tests of the contract share: inputs, owners of handles, folders. Only the public header is used.
#pragma once

#include <attngraph/attngraph.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace attngraph_test {

struct Destroy {
  void operator()(attngraph_context* p) const { attngraph_context_destroy(p); }
  void operator()(attngraph_result* p) const { attngraph_result_destroy(p); }
  void operator()(attngraph_sink* p) const { attngraph_sink_destroy(p); }
  void operator()(attngraph_file* p) const { attngraph_file_destroy(p); }
};
using Context = std::unique_ptr<attngraph_context, Destroy>;
using Result = std::unique_ptr<attngraph_result, Destroy>;
using Sink = std::unique_ptr<attngraph_sink, Destroy>;
using File = std::unique_ptr<attngraph_file, Destroy>;

// A new folder, removed with all it holds.
class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "attngraph-XXXXXX";
    path_ = std::string(mkdtemp(name.data()) != nullptr ? name : std::string()) + "/";
  }
  ~Folder() {
    std::error_code ignored;
    if (path_.size() > 1) std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }  // ends with '/'
  std::string operator/(const char* name) const { return path_ + name; }

 private:
  std::string path_;
};

// A tensor that owns its numbers.
template <class T>
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<T> values;
  std::int32_t dtype;

  attngraph_tensor view() const {
    return {values.data(), ATTNGRAPH_DEVICE_CPU, 0, dtype, static_cast<std::int32_t>(shape.size()), shape.data(),
            nullptr};
  }
};

inline std::size_t size_of(const std::vector<std::int64_t>& shape) {
  std::size_t size = 1;
  for (const std::int64_t n : shape) size *= static_cast<std::size_t>(n);
  return size;
}

inline Tensor<float> random_tensor(std::vector<std::int64_t> shape, unsigned seed) {
  std::mt19937 random(seed);
  Tensor<float> out{shape, std::vector<float>(size_of(shape)), ATTNGRAPH_F32};
  for (float& x : out.values) x = static_cast<float>(random() % 2001) / 500.0f - 2.0f;
  return out;
}

inline Context make_context(const char* device = "cpu") {
  attngraph_context* context = nullptr;
  EXPECT_EQ(attngraph_context_create(&context, device), ATTNGRAPH_OK) << attngraph_last_error();
  return Context(context);
}

inline attngraph_options default_options() {
  attngraph_options options = ATTNGRAPH_OPTIONS_INIT;
  return options;
}

inline Sink make_collect_sink() {
  attngraph_sink* sink = nullptr;
  EXPECT_EQ(attngraph_sink_create_collect(&sink), ATTNGRAPH_OK) << attngraph_last_error();
  return Sink(sink);
}

inline Result take(const Sink& sink) {
  attngraph_result* result = nullptr;
  EXPECT_EQ(attngraph_sink_take_result(sink.get(), &result), ATTNGRAPH_OK) << attngraph_last_error();
  return Result(result);
}

inline Result extract(const Context& context, const attngraph_tensor& q, const attngraph_tensor& k,
                      const attngraph_options& options) {
  attngraph_result* result = nullptr;
  EXPECT_EQ(attngraph_extract(context.get(), &q, &k, &options, &result), ATTNGRAPH_OK) << attngraph_last_error();
  return Result(result);
}

// All edges in table order, for comparing answers.
struct Row {
  std::int64_t batch, layer, head, query, key;
  double weight;
  bool operator==(const Row&) const = default;
};

inline std::vector<Row> table_of(const attngraph_result* result) {
  std::vector<Row> table;
  for (std::int64_t s = 0; s < attngraph_result_slice_count(result); ++s) {
    attngraph_csr csr;
    EXPECT_EQ(attngraph_result_csr(result, s, &csr), ATTNGRAPH_OK);
    for (std::int64_t r = 0; r < csr.query_count; ++r) {
      for (std::int64_t e = csr.offsets[r]; e < csr.offsets[r + 1]; ++e) {
        const double weight = csr.weight_dtype == ATTNGRAPH_F64
                                  ? static_cast<const double*>(csr.weights)[e]
                                  : static_cast<double>(static_cast<const float*>(csr.weights)[e]);
        table.push_back({csr.batch, csr.layer, csr.head, csr.query_begin + r, csr.keys[e], weight});
      }
    }
  }
  return table;
}

// Names of the backends that work here.
inline std::vector<std::string> working_backends() {
  std::vector<std::string> names;
  for (std::int32_t i = 0; i < attngraph_backend_count(); ++i) {
    if (attngraph_backend_unavailable(i) == nullptr) names.emplace_back(attngraph_backend_name(i));
  }
  return names;
}

}  // namespace attngraph_test
