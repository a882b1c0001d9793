// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "escape.hpp"
#include "npy.hpp"
#include "tensor_table.hpp"
#include "zip_reader.hpp"

namespace ag {
namespace {

class NpzFile : public TensorTable {
 public:
  explicit NpzFile(std::unique_ptr<InputFile> file) : TensorTable(file->name()), file_(std::move(file)) {
    constexpr std::string_view kSuffix = ".npy";
    std::vector<ZipMember> directory = read_zip_directory(*file_);
    // What torch.save writes is such an archive, too.
    for (const ZipMember& member : directory) {
      if (member.name == "data.pkl" || member.name.ends_with("/data.pkl")) {
        fail(Status::kUnsupported,
             "{}: a file of PyTorch (.pt, .pth), which is never loaded because loading runs it; save the tensors with "
             "safetensors or numpy.save",
             file_->name());
      }
    }
    for (ZipMember& member : directory) {
      const bool is_array = member.name.ends_with(kSuffix);
      const std::string name = member.name.substr(0, member.name.size() - (is_array ? kSuffix.size() : 0));
      NpyArray array;
      if (!member.unsupported.empty()) {
        array.entry.unsupported = member.unsupported;
      } else if (!is_array) {
        array.entry.unsupported = "is no .npy array";
      } else {
        array = read_npy_header(*open_zip_member(*file_, member));
      }
      if (!add(name, array.entry)) file_->bad(member.entry_at, "a second array {}", in_quotes(name, 80));
      members_.push_back({std::move(member), std::move(array)});
    }
  }

 private:
  struct Member {
    ZipMember member;
    NpyArray array;
  };

  void load(std::size_t index, const TensorEntry&, std::byte* out) override {
    const auto source = open_zip_member(*file_, members_[index].member);
    // Once more, because the checksum covers it.
    const NpyArray array = read_npy_header(*source);
    if (array.entry.bytes != members_[index].array.entry.bytes) {
      source->bad(0, "the header changed while the file was read");
    }
    read_npy_data(*source, array, out);
  }

  std::unique_ptr<InputFile> file_;
  std::vector<Member> members_;  // in the order of names()
};

}  // namespace

std::unique_ptr<TensorFile> open_npz(std::unique_ptr<InputFile> file) {
  return std::make_unique<NpzFile>(std::move(file));
}

}  // namespace ag
