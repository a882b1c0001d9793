// SPDX-License-Identifier: Apache-2.0
// Tensors in files: .safetensors, .npy, .npz. Untrusted bytes: every length is checked against what remains before it
// is used, and every error names the file, the limit and the first bad byte.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../core/tensor_view.hpp"

namespace ag {

class TensorFile {
 public:
  virtual ~TensorFile() = default;
  // In the file's order. An .npy file has one tensor named "".
  virtual const std::vector<std::string>& names() const = 0;
  // dtype, shape and strides; data == nullptr. A scalar has the shape [1]. kNotFound lists the names; kUnsupported when
  // the file is sound, but holds this tensor in a way that is not read.
  virtual TensorView info(const std::string& name) const = 0;
  virtual TensorView read(const std::string& name) = 0;  // bytes stay until release(name) or the file goes
  virtual void release(const std::string& name) = 0;
  virtual const std::map<std::string, std::string>& metadata() const = 0;  // safetensors __metadata__; else empty
};

// Chooses the format by the first bytes, not by the name. `stranger`: what is said of a file that is none of them.
std::unique_ptr<TensorFile> open_tensor_file(
    const std::string& path, std::string_view stranger = "no .safetensors, .npy or .npz file begins like this");

}  // namespace ag
