// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>
#include <optional>

#include "../core/checked.hpp"
#include "escape.hpp"
#include "input_file.hpp"
#include "json_text.hpp"
#include "safetensors.hpp"
#include "tensor_table.hpp"

namespace ag {
namespace {

// Every dtype that the format knows, so that sizes can be checked also of tensors that are not read here.
struct StoredType {
  std::string_view name;
  unsigned bits;
  std::optional<DType> dtype;
};
constexpr StoredType kStoredTypes[] = {
    {"F64", 64, DType::kF64},     {"F32", 32, DType::kF32},     {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBF16},   {"BOOL", 8, DType::kBool},    {"U8", 8, DType::kBool},
    {"I32", 32, DType::kI32},     {"I64", 64, DType::kI64},     {"I8", 8, std::nullopt},
    {"I16", 16, std::nullopt},    {"U16", 16, std::nullopt},    {"U32", 32, std::nullopt},
    {"U64", 64, std::nullopt},    {"C64", 64, std::nullopt},    {"F8_E4M3", 8, std::nullopt},
    {"F8_E5M2", 8, std::nullopt}, {"F8_E8M0", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt},
    {"F6_E3M2", 6, std::nullopt}, {"F4", 4, std::nullopt}};

constexpr const char* kReadTypes = "F64, F32, F16, BF16, BOOL, U8, I32 and I64";

struct Extent {
  std::uint64_t begin = 0, end = 0;  // within the data
  std::uint64_t at = 0;              // where the header says so
};

// What the header says of a tensor.
struct TensorHead {
  std::string name;
  std::uint64_t at = 0;
  std::optional<std::string> dtype{};
  std::optional<std::vector<std::uint64_t>> shape{}, offsets{};
};

// {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__": {"name": "value"}}
class HeaderReader : public JsonVisitor {
 public:
  std::vector<TensorHead> tensors;
  std::map<std::string, std::string> metadata;

 private:
  bool in_metadata() const { return name(0) == "__metadata__"; }

  void opened() override {
    if (nesting() == "{" || (nesting() == "{{" && in_metadata())) return;
    if (nesting() == "{{") {
      if (tensors.size() == kMaxTensors) {
        fail_at(Status::kLimit, where(), offset(), "the file has more than {} tensors", kMaxTensors);
      }
      tensors.push_back({name(0), offset()});
    } else if (nesting() == "{{[" && !in_metadata() && name(1) == "shape") {
      list_ = &tensors.back().shape.emplace();
    } else if (nesting() == "{{[" && !in_metadata() && name(1) == "data_offsets") {
      list_ = &tensors.back().offsets.emplace();
    } else {
      refuse("a list or object");
    }
  }
  void scalar(Json value) override {
    constexpr std::size_t kMaxListed = 64;
    if (nesting() == "{{[" && value.is_number_unsigned()) {
      if (list_->size() == kMaxListed) bad("a list of more than {} numbers", kMaxListed);
      list_->push_back(value.get<std::uint64_t>());
    } else if (nesting() == "{" && value.is_null() && in_metadata()) {
      // None, as some writers say it.
    } else if (nesting() == "{{" && value.is_string() && in_metadata()) {
      metadata.emplace(name(1), std::move(value.get_ref<std::string&>()));
    } else if (nesting() == "{{" && value.is_string() && name(1) == "dtype") {
      tensors.back().dtype = value.get<std::string>();
    } else {
      refuse(in_quotes(value.dump(), 40));
    }
  }
  [[noreturn]] void refuse(const std::string& what) const {
    bad("JSON: {} does not belong into {}, {}; a tensor has a dtype, a shape and data_offsets, metadata are text", what,
        in_quotes(nesting().empty() ? "" : name(0), 80), in_quotes(nesting().size() < 2 ? "" : name(1), 40));
  }

  std::vector<std::uint64_t>* list_ = nullptr;
};

class SafetensorsFile : public TensorTable {
 public:
  explicit SafetensorsFile(std::unique_ptr<InputFile> file) : TensorTable(file->name()), file_(std::move(file)) {
    std::uint64_t length = 0;
    file_->read(0, &length, sizeof length, "the header length");
    const std::uint64_t rest = file_->size() - sizeof length;
    if (length > rest) file_->bad(0, "header length {} exceeds the {} bytes that remain", length, rest);
    if (length > kMaxSafetensorsHeader) {
      fail_at(Status::kLimit, file_->name(), 0, "header length {} exceeds the limit {}", length, kMaxSafetensorsHeader);
    }
    std::string header(static_cast<std::size_t>(length), '\0');
    file_->read(sizeof length, header.data(), header.size(), "the header");
    if (header.empty() || header[0] != '{') file_->bad(sizeof length, "the header does not begin with '{{'");
    data_at_ = sizeof length + length;
    HeaderReader reader;
    reader.parse(header, file_->name(), sizeof length);
    metadata_ = std::move(reader.metadata);
    for (const TensorHead& head : reader.tensors) add_tensor(head);
    check_extents(rest - length);
  }

 private:
  void add_tensor(const TensorHead& head) {
    if (!head.dtype || !head.shape || !head.offsets || head.offsets->size() != 2) {
      file_->bad(head.at, "tensor {} needs a dtype, a shape and two data_offsets", in_quotes(head.name, 80));
    }
    extents_.push_back({(*head.offsets)[0], (*head.offsets)[1], head.at});
    add(head.name, make_entry(head.name, *head.dtype, *head.shape, extents_.back()));
  }

  TensorEntry make_entry(const std::string& name, const std::string& dtype, const std::vector<std::uint64_t>& shape,
                         const Extent& extent) {
    const auto* type = std::ranges::find(kStoredTypes, dtype, &StoredType::name);
    if (type == std::end(kStoredTypes)) {
      // Its size cannot be checked, but its place can: no other tensor lies there.
      if (extent.end < extent.begin)
        file_->bad(extent.at, "tensor {} has the data_offsets {} and {}", in_quotes(name, 80), extent.begin,
                   extent.end);
      TensorEntry unknown;
      unknown.unsupported = fmt::format("has the unknown dtype {}; {} are read", in_quotes(dtype, 40), kReadTypes);
      return unknown;
    }
    const std::uint64_t bits = checked_for(file_->name(), extent.at, [&] {
      std::uint64_t product = type->bits;
      for (const std::uint64_t size : shape) {
        if (size != 0) product = checked_mul(product, size, "the size of the tensor");
      }
      return std::ranges::find(shape, 0u) != shape.end() ? 0 : product;
    });
    if (extent.end < extent.begin || bits % 8 != 0 || bits / 8 != extent.end - extent.begin) {
      file_->bad(extent.at, "tensor {} needs {} bytes, but its data_offsets are {} and {}", in_quotes(name, 80),
                 bits / 8, extent.begin, extent.end);
    }
    TensorEntry entry;
    entry.bytes = static_cast<std::size_t>(bits / 8);
    if (!type->dtype) {
      entry.unsupported = fmt::format("has dtype {}; {} are read", dtype, kReadTypes);
    } else if (shape.size() > static_cast<std::size_t>(kMaxDims)) {
      entry.unsupported = fmt::format("has {} dimensions; the limit is {}", shape.size(), kMaxDims);
    } else {
      std::vector<std::int64_t> sizes;
      for (const std::uint64_t size : shape) {
        if (size > INT64_MAX) file_->bad(extent.at, "tensor {} has a dimension of {}", in_quotes(name, 80), size);
        sizes.push_back(static_cast<std::int64_t>(size));
      }
      entry.view = view_of_shape(*type->dtype, sizes, false);
    }
    return entry;
  }

  // The tensors lie one after another from the first byte of the data to the last: no hole, no overlap, no rest.
  void check_extents(std::uint64_t data_bytes) {
    std::vector<std::size_t> order(extents_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t n) { return std::pair(extents_[n].begin, extents_[n].end); });
    std::uint64_t end = 0;
    for (const std::size_t n : order) {
      const Extent& extent = extents_[n];
      if (extent.begin != end) {
        file_->bad(extent.at, "tensor {} begins at {} of the data, but the one before it ends at {}",
                   in_quotes(names()[n], 80), extent.begin, end);
      }
      end = extent.end;
      if (end > data_bytes) {
        file_->bad(extent.at, "tensor {} ends at {} of the data, but the file holds {} bytes of it",
                   in_quotes(names()[n], 80), end, data_bytes);
      }
    }
    if (end != data_bytes) {
      file_->bad(data_at_ + end, "{} bytes follow the last tensor", data_bytes - end);
    }
  }

  void load(std::size_t index, const TensorEntry& entry, std::byte* out) override {
    const std::uint64_t at = checked_add(data_at_, extents_[index].begin, "the offset of a tensor");
    file_->read(at, out, entry.bytes, "the tensor");
  }

  std::unique_ptr<InputFile> file_;
  std::vector<Extent> extents_;  // in the order of names()
  std::uint64_t data_at_ = 0;
};

}  // namespace

std::unique_ptr<TensorFile> open_safetensors(std::unique_ptr<InputFile> file) {
  return std::make_unique<SafetensorsFile>(std::move(file));
}

}  // namespace ag
