// SPDX-License-Identifier: Apache-2.0
#include "tensor_file.hpp"

#include <algorithm>
#include <string_view>

#include "input_file.hpp"
#include "npy.hpp"
#include "suffix.hpp"
#include "tensor_table.hpp"

namespace ag {
namespace {

// Files that are often taken for one of tensors: what it is, and what to do about it.
void refuse_strangers(const InputFile& file, std::string_view head) {
  if (head.starts_with("GGUF")) {
    fail(Status::kUnsupported, "{}: a GGUF model holds no queries and keys; capture them while the model runs",
         file.name());
  }
  // A pickle of protocol 2 to 5: torch.save before PyTorch 1.6, pickle.dump.
  if (head.size() > 1 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5) {
    fail(Status::kUnsupported,
         "{}: a Python pickle (.pt, .pth, .pkl), which is never loaded because loading runs it; save the tensors with "
         "safetensors or numpy.save",
         file.name());
  }
  constexpr std::pair<std::string_view, const char*> kCompressed[] = {
      {"\x1F\x8B", "gzip"}, {"BZh", "bzip2"}, {"\xFD\x37zXZ", "xz"}, {"\x28\xB5\x2F\xFD", "zstd"}};
  for (const auto& [magic, program] : kCompressed) {
    if (head.starts_with(magic))
      fail(Status::kUnsupported, "{}: compressed by {}; unpack it first", file.name(), program);
  }
  if (head.starts_with("\x89HDF")) {
    fail(Status::kUnsupported, "{}: an HDF5 file; save its arrays with safetensors or numpy.save", file.name());
  }
  file.refuse_pointer();
}

}  // namespace

std::unique_ptr<TensorFile> open_tensor_file(const std::string& path, std::string_view stranger) {
  auto file = std::make_unique<InputFile>(path);
  char bytes[9] = {};
  const std::size_t count = static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), sizeof bytes));
  file->read(0, bytes, count, "the first bytes");
  const std::string_view head(bytes, count);
  if (head.starts_with(kNpyMagic)) return open_npy(std::move(file));
  if (head.starts_with("PK\x03\x04") || head.starts_with("PK\x05\x06")) return open_npz(std::move(file));
  // Safetensors has no magic: a length, then an object. The length may look like another format's first bytes (a header
  // of 640 bytes like a pickle's). The name helps only to say what is wrong with a broken one.
  if (count == sizeof bytes && head.back() == '{') return open_safetensors(std::move(file));
  refuse_strangers(*file, head);
  if (has_suffix(path, ".safetensors")) return open_safetensors(std::move(file));
  if (file->size() == 0) file->bad(0, "the file is empty");
  file->bad(0, "{}", stranger);
}

}  // namespace ag
