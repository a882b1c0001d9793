// SPDX-License-Identifier: Apache-2.0
#include "tensor_file.hpp"

#include <algorithm>
#include <string_view>

#include "input_file.hpp"
#include "npy.hpp"
#include "tensor_table.hpp"

namespace ag {

std::unique_ptr<TensorFile> open_tensor_file(const std::string& path) {
  auto file = std::make_unique<InputFile>(path);
  char bytes[9] = {};
  const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), sizeof bytes));
  file->read(0, bytes, count, "the first bytes");
  const std::string_view head(bytes, count);
  if (head.starts_with(kNpyMagic)) return open_npy(std::move(file));
  if (head.starts_with("PK\x03\x04") || head.starts_with("PK\x05\x06")) return open_npz(std::move(file));
  // Safetensors has no magic: a length, then an object. The name helps only to say what is wrong with a broken one.
  if ((count == sizeof bytes && head.back() == '{') || path.ends_with(".safetensors")) {
    return open_safetensors(std::move(file));
  }
  if (head.starts_with("GGUF")) {
    fail(Status::kUnsupported, "{}: a GGUF model holds no queries and keys; capture them while the model runs",
         file->name());
  }
  if (file->size() == 0) file->bad(0, "the file is empty");
  file->bad(0, "neither a safetensors nor an .npy nor an .npz file begins like this");
}

}  // namespace ag
