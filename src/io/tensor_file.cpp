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
  if (head.starts_with("version ")) {
    constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/";
    char line[kPointer.size()] = {};
    if (file.size() >= sizeof line) file.read(0, line, sizeof line, "the first line");
    if (std::string_view(line, sizeof line) == kPointer) {
      fail(Status::kFormat, "{}: a pointer of Git LFS, not the file that it stands for; `git lfs pull` brings that",
           file.name());
    }
  }
}

}  // namespace

std::unique_ptr<TensorFile> open_tensor_file(const std::string& path) {
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
  file->bad(0, "neither a safetensors nor an .npy nor an .npz file begins like this");
}

}  // namespace ag
