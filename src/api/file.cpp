// SPDX-License-Identifier: Apache-2.0
#include <attngraph/attngraph.h>

#include <functional>
#include <map>
#include <memory>

#include "../io/tensor_file.hpp"
#include "guard.hpp"
#include "tensor_argument.hpp"

struct attngraph_file {
  std::unique_ptr<ag::TensorFile> file;
  // What the caller's structs point into: shape and strides of every tensor asked for. Nodes keep their address.
  mutable std::map<std::string, ag::TensorView, std::less<>> described;
};

namespace {

using ag::api::answer_or;
using ag::api::guarded;
using ag::api::required;

attngraph_tensor describe(const attngraph_file& file, const ag::TensorView& view, const char* name) {
  return ag::api::tensor_struct(file.described.insert_or_assign(name, view).first->second);
}

}  // namespace

attngraph_status attngraph_file_open(const char* path, attngraph_file** file) {
  return guarded([&] {
    required(file, "file");
    auto opened = std::make_unique<attngraph_file>();
    opened->file = ag::open_tensor_file(&required(path, "path"));
    *file = opened.release();
  });
}

void attngraph_file_destroy(attngraph_file* file) { delete file; }

int64_t attngraph_file_tensor_count(const attngraph_file* file) {
  return file != nullptr ? static_cast<int64_t>(file->file->names().size()) : 0;
}

const char* attngraph_file_tensor_name(const attngraph_file* file, int64_t i) {
  if (i < 0 || i >= attngraph_file_tensor_count(file)) return nullptr;
  return file->file->names()[static_cast<std::size_t>(i)].c_str();
}

attngraph_status attngraph_file_tensor_info(const attngraph_file* file, const char* name, attngraph_tensor* tensor) {
  return guarded([&] {
    const attngraph_file& open = required(file, "file");
    const ag::TensorView view = open.file->info(&required(name, "name"));
    required(tensor, "tensor") = describe(open, view, name);
  });
}

attngraph_status attngraph_file_tensor(attngraph_file* file, const char* name, attngraph_tensor* tensor) {
  return guarded([&] {
    const attngraph_file& open = required(file, "file");
    required(tensor, "tensor");
    const ag::TensorView view = open.file->read(&required(name, "name"));
    *tensor = describe(open, view, name);
  });
}

void attngraph_file_release(attngraph_file* file, const char* name) {
  if (file == nullptr || name == nullptr) return;
  answer_or(0, [&] {
    file->file->release(name);
    return 0;
  });
}

const char* attngraph_file_metadata(const attngraph_file* file, const char* name) {
  return answer_or<const char*>(nullptr, [&]() -> const char* {
    const auto& metadata = required(file, "file").file->metadata();
    const auto entry = metadata.find(&required(name, "name"));
    return entry != metadata.end() ? entry->second.c_str() : nullptr;
  });
}
