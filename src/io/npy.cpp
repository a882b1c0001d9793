// SPDX-License-Identifier: Apache-2.0
#include "npy.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>

#include "../core/checked.hpp"
#include "escape.hpp"

namespace ag {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian and read in place");

// What the header text says. It is the literal of a Python dictionary; it is never evaluated, and only the three keys
// that the format defines are known, once each.
struct Header {
  std::optional<std::string> descr;
  bool structured = false;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;
};

class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::uint64_t base, const ByteSource& source)
      : text_(text), base_(base), source_(source) {}

  Header parse() {
    Header header;
    expect('{');
    while (!take('}')) {
      const std::uint64_t key_at = offset();
      const std::string key = string();
      expect(':');
      if (key == "descr" && !header.descr) {
        if (peek() == '[') {
          // A structured type. What is within does not matter: it cannot be read anyway.
          header.structured = true;
          header.descr = "";
          return header;
        }
        header.descr = string();
      } else if (key == "fortran_order" && !header.fortran_order) {
        header.fortran_order = boolean();
      } else if (key == "shape" && !header.shape) {
        header.shape = tuple();
      } else {
        source_.bad(key_at, "the header has an unknown or repeated key {}", in_quotes(key, 40));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    if (peek() != '\0' || at_ != text_.size()) source_.bad(offset(), "something follows the dictionary in the header");
    if (!header.descr || !header.fortran_order || !header.shape) {
      source_.bad(base_, "the header needs 'descr', 'fortran_order' and 'shape'");
    }
    return header;
  }

 private:
  std::uint64_t offset() const { return base_ + at_; }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) source_.bad(offset(), "'{}' expected in the header", c);
  }
  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') source_.bad(offset(), "a string expected in the header");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) source_.bad(offset(), "a string in the header does not end");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }
  bool boolean() {
    peek();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return word == "True";
      }
    }
    source_.bad(offset(), "True or False expected in the header");
  }
  std::vector<std::int64_t> tuple() {
    constexpr std::size_t kMaxListed = 64;  // NumPy's own limit
    std::vector<std::int64_t> values;
    expect('(');
    while (!take(')')) {
      peek();
      std::int64_t value = 0;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
      if (error != std::errc{} || value < 0) {
        source_.bad(offset(), "a dimension of the shape is not an integer from 0 to 2^63 - 1");
      }
      if (values.size() == kMaxListed) source_.bad(offset(), "the shape has more than {} dimensions", kMaxListed);
      at_ += static_cast<std::size_t>(end - begin);
      values.push_back(value);
      take('L');  // written by Python 2
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return values;
  }

  std::string_view text_;
  std::uint64_t base_;
  const ByteSource& source_;
  std::size_t at_ = 0;
};

std::optional<DType> dtype_of(std::string_view kind) {
  if (kind == "f8") return DType::kF64;
  if (kind == "f4") return DType::kF32;
  if (kind == "f2") return DType::kF16;
  if (kind == "V2") return DType::kBF16;  // what a bfloat16 array becomes: NumPy has no name for it
  if (kind == "b1" || kind == "u1") return DType::kBool;
  if (kind == "i4") return DType::kI32;
  if (kind == "i8") return DType::kI64;
  return std::nullopt;
}

template <class T>
T get(ByteSource& source, const char* what) {
  T value;
  source.read(&value, sizeof value, what);
  return value;
}

template <class Word>
void swap_each(std::byte* data, std::size_t count) {
  for (std::size_t n = 0; n < count; ++n, data += sizeof(Word)) {
    std::reverse(data, data + sizeof(Word));
  }
}

}  // namespace

NpyArray read_npy_header(ByteSource& source) {
  const std::uint64_t start = source.offset();
  char magic[6];
  source.read(magic, sizeof magic, "the npy magic");
  if (std::string_view(magic, sizeof magic) != kNpyMagic) source.bad(start, "no npy array begins here");
  const auto major = get<std::uint8_t>(source, "the npy version");
  get<std::uint8_t>(source, "the npy version");
  if (major < 1 || major > 3) {
    fail_at(Status::kUnsupported, source.name(), start + 6, "npy version {}; versions 1, 2 and 3 are read", major);
  }
  const std::uint64_t length_at = source.offset();
  const std::uint32_t length =
      major == 1 ? get<std::uint16_t>(source, "the header length") : get<std::uint32_t>(source, "the header length");
  if (length > source.remaining()) {
    source.bad(length_at, "header length {} exceeds the {} bytes that remain", length, source.remaining());
  }
  if (length > kMaxNpyHeader) {
    fail_at(Status::kLimit, source.name(), length_at, "header length {} exceeds the limit {}", length, kMaxNpyHeader);
  }
  std::string text(length, '\0');
  const std::uint64_t text_at = source.offset();
  source.read(text.data(), text.size(), "the header");
  const Header header = HeaderParser(text, text_at, source).parse();

  NpyArray array;
  const std::string& descr = *header.descr;
  const bool has_order = !descr.empty() && std::string_view("<>=|").find(descr[0]) != std::string_view::npos;
  const std::string_view kind = std::string_view(descr).substr(has_order ? 1 : 0);
  const std::optional<DType> dtype = dtype_of(kind);
  if (header.structured) {
    array.entry.unsupported = "has a structured dtype; save each field as an array of its own";
  } else if (kind == "O") {
    array.entry.unsupported = "holds pickled Python objects, which are never loaded; save it with a numeric dtype";
  } else if (!dtype || (kind == "V2" && descr[0] == '>')) {
    array.entry.unsupported =
        fmt::format("has dtype {}; f2, f4, f8, V2 (bfloat16), b1, u1, i4 and i8 are read", in_quotes(descr, 40));
  } else if (header.shape->size() > static_cast<std::size_t>(kMaxDims)) {
    array.entry.unsupported = fmt::format("has {} dimensions; the limit is {}", header.shape->size(), kMaxDims);
  }
  if (!array.entry.unsupported.empty()) return array;

  const std::uint64_t bytes = checked_for(source.name(), text_at, [&] {
    // The zeros last: a product that wraps is an error even when another dimension is 0.
    std::uint64_t product = size_of(*dtype);
    for (const std::int64_t size : *header.shape) {
      if (size != 0) product = checked_mul(product, static_cast<std::uint64_t>(size), "the size of the array");
    }
    return std::ranges::find(*header.shape, 0) != header.shape->end() ? 0 : product;
  });
  if (bytes != source.remaining()) {
    source.bad(source.offset(), "the shape needs {} bytes of data, but {} follow the header", bytes,
               source.remaining());
  }
  array.entry.view = view_of_shape(*dtype, *header.shape, *header.fortran_order);
  array.entry.bytes = static_cast<std::size_t>(bytes);
  array.swap_bytes = descr[0] == '>' && size_of(*dtype) > 1;
  return array;
}

void read_npy_data(ByteSource& source, const NpyArray& array, std::byte* out) {
  source.read(out, array.entry.bytes, "the array");
  source.finish();
  if (!array.swap_bytes) return;
  const std::size_t width = size_of(array.entry.view.dtype);
  const std::size_t count = array.entry.bytes / width;
  if (width == 2) swap_each<std::uint16_t>(out, count);
  if (width == 4) swap_each<std::uint32_t>(out, count);
  if (width == 8) swap_each<std::uint64_t>(out, count);
}

std::string npy_header(std::string_view descr, const std::vector<std::uint64_t>& shape) {
  std::string dimensions;
  for (const std::uint64_t size : shape) dimensions += fmt::format("{}, ", size);
  if (shape.size() > 1) dimensions.resize(dimensions.size() - 2);
  if (shape.size() == 1) dimensions.resize(dimensions.size() - 1);
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, dimensions);
  // Elements begin at a multiple of 64; the header ends with a newline.
  constexpr std::size_t kPrefix = kNpyMagic.size() + 4;
  text.resize((kPrefix + text.size() + 1 + 63) / 64 * 64 - kPrefix, ' ');
  text.back() = '\n';
  std::string out(kNpyMagic);
  out += '\x01';
  out += '\0';
  out += static_cast<char>(text.size() & 0xFF);
  out += static_cast<char>(text.size() >> 8);
  return out + text;
}

namespace {

class NpyFile : public TensorTable {
 public:
  explicit NpyFile(std::unique_ptr<InputFile> file) : TensorTable(file->name()), file_(std::move(file)) {
    FileSource source(*file_, 0, file_->size());
    array_ = read_npy_header(source);
    data_at_ = source.offset();
    add("", array_.entry);
  }

 private:
  void load(std::size_t, const TensorEntry&, std::byte* out) override {
    FileSource source(*file_, data_at_, file_->size());
    read_npy_data(source, array_, out);
  }
  std::unique_ptr<InputFile> file_;
  NpyArray array_;
  std::uint64_t data_at_ = 0;
};

}  // namespace

std::unique_ptr<TensorFile> open_npy(std::unique_ptr<InputFile> file) {
  return std::make_unique<NpyFile>(std::move(file));
}

}  // namespace ag
