// SPDX-License-Identifier: Apache-2.0
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "array_archive.hpp"
#include "npy.hpp"
#include "zip_format.hpp"

namespace ag {
namespace {

using namespace zip;

const char* descr_of(DType dtype) {
  switch (dtype) {
    case DType::kF64: return "<f8";
    case DType::kF32: return "<f4";
    case DType::kF16: return "<f2";
    case DType::kBF16: return "|V2";
    case DType::kBool: return "|b1";
    case DType::kI32: return "<i4";
    case DType::kI64: return "<i8";
  }
  return "";
}

class Record {
 public:
  template <class T>
  Record& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Record& text(std::string_view value) {
    bytes_ += value;
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

struct Entry {
  std::string name;
  std::uint32_t crc = 0;
  std::uint64_t size = 0;
  std::uint64_t at = 0;
};

// Stored members one after another, then the directory. The target may be a pipe: nothing is ever gone back to.
class ZipWriter {
 public:
  ZipWriter(BufferedWriter& out, std::uint64_t zip64_from) : out_(out), zip64_from_(zip64_from) {}

  // A member of `size` bytes; its data are to follow.
  void begin(const std::string& name, std::uint64_t size, std::uint32_t crc) {
    const Entry entry{name, crc, size, out_.size()};
    Record record;
    record.put(kLocalSignature);
    const std::string extra = size >= zip64_from_ ? extra64({size, size}) : "";
    put_common(record, entry, extra, false);
    record.text(name).text(extra);
    out_.write(record.bytes());
    entries_.push_back(entry);
  }

  void finish() {
    const std::uint64_t at = out_.size();
    for (const Entry& entry : entries_) {
      std::vector<std::uint64_t> large;
      if (entry.size >= zip64_from_) large.insert(large.end(), {entry.size, entry.size});
      if (entry.at >= zip64_from_) large.push_back(entry.at);
      const std::string extra = large.empty() ? "" : extra64(large);
      Record record;
      record.put(kCentralSignature).put(version(!large.empty()));
      put_common(record, entry, extra, !large.empty());
      constexpr std::uint16_t kNoComment = 0, kFirstDisk = 0, kNoAttributes = 0;
      constexpr std::uint32_t kOrdinaryFile = 0;
      record.put(kNoComment).put(kFirstDisk).put(kNoAttributes).put(kOrdinaryFile).put(narrow(entry.at));
      record.text(entry.name).text(extra);
      out_.write(record.bytes());
    }
    write_end(at, out_.size() - at);
  }

 private:
  static std::uint16_t version(bool zip64) { return zip64 ? 45 : 20; }
  std::uint32_t narrow(std::uint64_t value) const {
    return value >= zip64_from_ ? kSaturated32 : static_cast<std::uint32_t>(value);
  }
  static std::string extra64(const std::vector<std::uint64_t>& values) {
    Record record;
    record.put(kExtra64).put(static_cast<std::uint16_t>(8 * values.size()));
    for (const std::uint64_t value : values) record.put(value);
    return record.bytes();
  }
  // What local header and directory entry have in common, from the version needed to the length of the extra field.
  void put_common(Record& record, const Entry& entry, const std::string& extra, bool zip64) const {
    constexpr std::uint16_t kMidnight = 0, kFirstDay = 0x21;  // 1980-01-01: the same graph gives the same bytes
    record.put(version(zip64 || !extra.empty())).put(kFlagUtf8).put(kStored).put(kMidnight).put(kFirstDay);
    record.put(entry.crc).put(narrow(entry.size)).put(narrow(entry.size));
    record.put(static_cast<std::uint16_t>(entry.name.size())).put(static_cast<std::uint16_t>(extra.size()));
  }
  void write_end(std::uint64_t at, std::uint64_t bytes) {
    constexpr std::uint32_t kThisDisk = 0;
    const auto count = static_cast<std::uint64_t>(entries_.size());
    Record record;
    if (at >= zip64_from_ || bytes >= zip64_from_) {
      const std::uint64_t end_at = out_.size();
      record.put(kEnd64Signature).put(std::uint64_t{kEnd64Size - 12}).put(version(true)).put(version(true));
      record.put(kThisDisk).put(kThisDisk).put(count).put(count).put(bytes).put(at);
      record.put(kLocator64Signature).put(kThisDisk).put(end_at).put(std::uint32_t{1});
    }
    constexpr std::uint16_t kFirst = 0, kNoComment = 0;
    const auto few = static_cast<std::uint16_t>(count);
    record.put(kEndSignature).put(kFirst).put(kFirst).put(few).put(few);
    record.put(narrow(bytes)).put(narrow(at)).put(kNoComment);
    out_.write(record.bytes());
  }

  BufferedWriter& out_;
  std::uint64_t zip64_from_;
  std::vector<Entry> entries_;
};

std::uint32_t crc_of(std::string_view bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<z_size_t>(bytes.size())));
}

}  // namespace

void write_npz(OutputFile& file, std::span<StoredArray> arrays, const Facts& facts, std::uint64_t zip64_from) {
  BufferedWriter& out = file.out();
  ZipWriter zip(out, zip64_from);
  for (StoredArray& array : arrays) {
    const std::string header = npy_header(descr_of(array.dtype), array.shape());
    const std::uint64_t size = array.data->size();
    const auto crc =
        static_cast<std::uint32_t>(crc32_combine(crc_of(header), array.data->crc(), static_cast<z_off_t>(size)));
    zip.begin(array.name + ".npy", header.size() + size, crc);
    out.write(header);
    array.data->replay([&](std::string_view piece) { out.write(piece); });
  }
  const std::string json = facts_to_json(facts);
  const std::string metadata = npy_header("|u1", {json.size()}) + json;
  zip.begin("metadata.npy", metadata.size(), crc_of(metadata));
  out.write(metadata);
  zip.finish();
}

}  // namespace ag
