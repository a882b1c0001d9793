// SPDX-License-Identifier: Apache-2.0
// What the readers of all tensor formats share: names, what is known of each tensor, and the bytes that were read.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor_file.hpp"

namespace ag {

inline constexpr std::size_t kMaxTensors = 65536;

struct TensorEntry {
  TensorView view;  // without data
  std::size_t bytes = 0;
  std::string unsupported;  // why it cannot be read, although the file is sound; empty: it can
};

class TensorTable : public TensorFile {
 public:
  const std::vector<std::string>& names() const override { return names_; }
  TensorView info(const std::string& name) const override;
  TensorView read(const std::string& name) override;
  void release(const std::string& name) override;
  const std::map<std::string, std::string>& metadata() const override { return metadata_; }

 protected:
  explicit TensorTable(std::string file) : file_(std::move(file)) {}
  bool add(const std::string& name, TensorEntry entry);  // false: there is one of that name already
  std::map<std::string, std::string> metadata_;

 private:
  // entries are numbered in the order of names()
  virtual void load(std::size_t index, const TensorEntry& entry, std::byte* out) = 0;
  std::size_t find(const std::string& name) const;

  std::string file_;
  std::vector<std::string> names_;
  std::vector<TensorEntry> entries_;
  std::vector<std::unique_ptr<std::byte[]>> data_;
  std::unordered_map<std::string, std::size_t> index_;
};

// A row-major (or, reversed, column-major) view of a shape that the file was checked to hold. No dimensions: [1].
TensorView view_of_shape(DType dtype, const std::vector<std::int64_t>& shape, bool column_major);

class InputFile;
std::unique_ptr<TensorFile> open_safetensors(std::unique_ptr<InputFile> file);
std::unique_ptr<TensorFile> open_npy(std::unique_ptr<InputFile> file);
std::unique_ptr<TensorFile> open_npz(std::unique_ptr<InputFile> file);

}  // namespace ag
