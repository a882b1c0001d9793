// SPDX-License-Identifier: Apache-2.0
#include "zip_reader.hpp"

#include <zlib.h>

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "../core/checked.hpp"
#include "../core/dtype.hpp"
#include "escape.hpp"
#include "zip_format.hpp"

namespace ag {
namespace {

using namespace zip;

constexpr std::uint64_t kMaxDirectory = std::uint64_t{16} << 20;

// Fixed-size record that lies in `bytes` whole; the caller has checked that it does.
class Record {
 public:
  explicit Record(const char* bytes) : bytes_(bytes) {}
  std::uint16_t u16(std::size_t at) const { return load_as<std::uint16_t>(bytes_ + at); }
  std::uint32_t u32(std::size_t at) const { return load_as<std::uint32_t>(bytes_ + at); }
  std::uint64_t u64(std::size_t at) const { return load_as<std::uint64_t>(bytes_ + at); }

 private:
  const char* bytes_;
};

struct Directory {
  std::uint64_t at = 0, bytes = 0, members = 0;
};

Directory find_directory64(const InputFile& file, std::uint64_t locator_at, const char* locator) {
  const Record link(locator);
  const std::uint64_t end_at = link.u64(8);
  if (link.u32(4) != 0 || link.u32(16) > 1) file.bad(locator_at, "the archive is split over several files");
  if (end_at > locator_at || locator_at - end_at < kEnd64Size) {
    file.bad(locator_at, "the zip64 end record lies at {}, outside the file", end_at);
  }
  char bytes[kEnd64Size];
  file.read(end_at, bytes, sizeof bytes, "the zip64 end record");
  const Record end(bytes);
  if (end.u32(0) != kEnd64Signature) file.bad(end_at, "no zip64 end record stands here");
  if (end.u64(4) != locator_at - end_at - 12) file.bad(end_at + 4, "the zip64 end record has a wrong length");
  if (end.u32(16) != 0 || end.u32(20) != 0 || end.u64(24) != end.u64(32)) {
    file.bad(end_at, "the archive is split over several files");
  }
  const Directory directory{end.u64(48), end.u64(40), end.u64(32)};
  if (directory.at > end_at || directory.bytes != end_at - directory.at) {
    file.bad(end_at, "the directory at {} with {} bytes does not reach to its end record", directory.at,
             directory.bytes);
  }
  return directory;
}

Directory find_directory(const InputFile& file) {
  if (file.size() < kEndSize) file.bad(file.size(), "the archive is too short for an end record");
  const std::uint64_t tail_bytes = std::min<std::uint64_t>(file.size(), kEndSize + kSaturated16 + kLocator64Size);
  const std::uint64_t tail_at = file.size() - tail_bytes;
  std::string tail(static_cast<std::size_t>(tail_bytes), '\0');
  file.read(tail_at, tail.data(), tail.size(), "the end of the archive");
  // The last record whose comment ends with the file.
  for (std::size_t at = tail.size() - kEndSize + 1; at-- > 0;) {
    const Record end(tail.data() + at);
    if (end.u32(0) != kEndSignature || end.u16(20) != tail.size() - at - kEndSize) continue;
    const std::uint64_t end_at = tail_at + at;
    if (at >= kLocator64Size && Record(tail.data() + at - kLocator64Size).u32(0) == kLocator64Signature) {
      return find_directory64(file, end_at - kLocator64Size, tail.data() + at - kLocator64Size);
    }
    if (end.u16(4) != 0 || end.u16(6) != 0 || end.u16(8) != end.u16(10)) {
      file.bad(end_at, "the archive is split over several files");
    }
    const Directory directory{end.u32(16), end.u32(12), end.u16(10)};
    if (directory.at > end_at || directory.bytes != end_at - directory.at) {
      file.bad(end_at, "the directory at {} with {} bytes does not reach to its end record", directory.at,
               directory.bytes);
    }
    return directory;
  }
  file.bad(file.size(), "the archive has no end record; it may be truncated");
}

// 64-bit values stand in an extra field, those that did not fit and only those, in this order.
void read_extra64(const InputFile& file, std::uint64_t at, std::string_view extra, ZipMember& member) {
  while (extra.size() >= 4) {
    const Record field(extra.data());
    const std::size_t bytes = field.u16(2);
    if (bytes > extra.size() - 4) file.bad(at, "an extra field reaches beyond its header");
    if (field.u16(0) == kExtra64) {
      std::size_t used = 0;
      for (std::uint64_t* value : {&member.size, &member.compressed, &member.header_at}) {
        if (*value != kSaturated32) continue;
        if (bytes - used < 8) file.bad(at, "the zip64 field of {} is too short", in_quotes(member.name, 80));
        *value = Record(extra.data() + 4 + used).u64(0);
        used += 8;
      }
      return;
    }
    extra.remove_prefix(4 + bytes);
  }
}

// The local header must tell the same as the directory: two readers must not see two archives.
void check_local_header(const InputFile& file, ZipMember& member, std::uint64_t directory_at) {
  if (member.header_at > directory_at || directory_at - member.header_at < kLocalSize) {
    file.bad(member.entry_at, "member {} lies at {}, outside the archive", in_quotes(member.name, 80),
             member.header_at);
  }
  char bytes[kLocalSize];
  file.read(member.header_at, bytes, sizeof bytes, "a local header");
  const Record local(bytes);
  if (local.u32(0) != kLocalSignature) file.bad(member.header_at, "no local header stands here");
  const std::size_t name_bytes = local.u16(26), extra_bytes = local.u16(28);
  const std::uint64_t head = kLocalSize + name_bytes + extra_bytes;
  if (head > directory_at - member.header_at) file.bad(member.header_at, "a local header reaches beyond the archive");
  std::string text(name_bytes + extra_bytes, '\0');
  file.read(member.header_at + kLocalSize, text.data(), text.size(), "a local header");

  ZipMember seen;
  seen.name = text.substr(0, name_bytes);
  seen.compressed = local.u32(18);
  seen.size = local.u32(22);
  read_extra64(file, member.header_at, std::string_view(text).substr(name_bytes), seen);
  const bool later = (local.u16(6) & kFlagDescriptor) != 0 && local.u32(14) == 0;
  if (seen.name != member.name || local.u16(8) != member.method ||
      (local.u16(6) & kFlagEncrypted) != (member.flags & kFlagEncrypted) ||
      (!later && (seen.size != member.size || seen.compressed != member.compressed || local.u32(14) != member.crc))) {
    file.bad(member.header_at, "the local header of {} and the directory disagree", in_quotes(member.name, 80));
  }
  member.data_at = member.header_at + head;
  if (member.compressed > directory_at - member.data_at) {
    file.bad(member.entry_at, "member {} has {} bytes, but {} remain", in_quotes(member.name, 80), member.compressed,
             directory_at - member.data_at);
  }
}

void check_member(const InputFile& file, ZipMember& member) {
  if (member.flags & (kFlagEncrypted | kFlagMasked)) {
    member.unsupported = "is encrypted";
  } else if (member.method != kStored && member.method != kDeflated) {
    member.unsupported = fmt::format("is compressed by method {}; stored and deflated members are read", member.method);
  } else if (member.method == kStored && member.compressed != member.size) {
    file.bad(member.entry_at, "stored member {} has two sizes, {} and {}", in_quotes(member.name, 80),
             member.compressed, member.size);
  } else if (member.method == kDeflated && member.size / 1032 > member.compressed) {
    // Deflate cannot do better; who claims more wants memory to be reserved.
    file.bad(member.entry_at, "member {} claims {} bytes out of {}", in_quotes(member.name, 80), member.size,
             member.compressed);
  }
}

void check_overlaps(const InputFile& file, const std::vector<ZipMember>& members) {
  std::vector<std::size_t> order(members.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t n) { return members[n].header_at; });
  std::uint64_t end = 0;
  for (const std::size_t n : order) {
    if (members[n].header_at < end) {
      file.bad(members[n].entry_at, "member {} overlaps another", in_quotes(members[n].name, 80));
    }
    end = members[n].data_at + members[n].compressed;
  }
}

class MemberSource : public ByteSource {
 public:
  MemberSource(const InputFile& file, const ZipMember& member)
      : file_(file), name_(fmt::format("{}, member {}", file.name(), in_quotes(member.name, 80))), member_(member) {}

  void read(void* out, std::size_t count, const char* what) override {
    if (count > remaining()) bad(at_, "{} needs {} bytes, but {} remain", what, count, remaining());
    auto* to = static_cast<unsigned char*>(out);
    // In pieces: the checksum finds them in cache, and zlib counts in 32 bits.
    while (count > 0) {
      const std::size_t piece = std::min(count, kPiece);
      produce(to, piece, what);
      crc_ = static_cast<std::uint32_t>(crc32(crc_, to, static_cast<uInt>(piece)));
      at_ += piece;
      to += piece;
      count -= piece;
    }
  }
  std::uint64_t remaining() const override { return member_.size - at_; }
  std::uint64_t offset() const override { return at_; }
  const std::string& name() const override { return name_; }
  void finish() override {
    finish_data();
    if (crc_ != member_.crc) bad(member_.size, "the checksum is {:08x}, but should be {:08x}", crc_, member_.crc);
  }

 protected:
  static constexpr std::size_t kPiece = std::size_t{1} << 18;
  virtual void produce(unsigned char* out, std::size_t count, const char* what) = 0;
  virtual void finish_data() {}

  const InputFile& file_;
  const std::string name_;
  const ZipMember member_;

 private:
  std::uint64_t at_ = 0;
  std::uint32_t crc_ = 0;
};

class StoredSource : public MemberSource {
 public:
  using MemberSource::MemberSource;

 private:
  void produce(unsigned char* out, std::size_t count, const char* what) override {
    file_.read(member_.data_at + offset(), out, count, what);
  }
};

class InflateSource : public MemberSource {
 public:
  InflateSource(const InputFile& file, const ZipMember& member) : MemberSource(file, member) {
    constexpr int kRawDeflate = -MAX_WBITS;
    if (inflateInit2(&stream_, kRawDeflate) != Z_OK) throw std::bad_alloc();
  }
  ~InflateSource() override { inflateEnd(&stream_); }
  InflateSource(const InflateSource&) = delete;
  InflateSource& operator=(const InflateSource&) = delete;

 private:
  void produce(unsigned char* out, std::size_t count, const char* what) override {
    stream_.next_out = out;
    stream_.avail_out = static_cast<uInt>(count);
    while (stream_.avail_out > 0) {
      if (ended_) bad(offset(), "the compressed data end within {}", what);
      step();
    }
  }
  void finish_data() override {
    // The end marker may still be to come; a byte of output may not.
    unsigned char extra = 0;
    stream_.next_out = &extra;
    stream_.avail_out = 1;
    while (!ended_ && stream_.avail_out > 0) step();
    if (stream_.avail_out == 0 || consumed_ - stream_.avail_in != member_.compressed) {
      bad(member_.size, "the compressed data do not end where they should");
    }
  }
  void step() {
    if (stream_.avail_in == 0) {
      const std::size_t piece =
          static_cast<std::size_t>(std::min<std::uint64_t>(member_.compressed - consumed_, sizeof input_));
      if (piece > 0) file_.read(member_.data_at + consumed_, input_, piece, "compressed data");
      consumed_ += piece;
      stream_.next_in = input_;
      stream_.avail_in = static_cast<uInt>(piece);
    }
    // Without input, too: zlib may hold the last codes already.
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_MEM_ERROR) throw std::bad_alloc();
    if (result == Z_STREAM_END) {
      ended_ = true;
    } else if (result == Z_BUF_ERROR) {
      bad(offset(), "the compressed data are truncated");
    } else if (result != Z_OK) {
      bad(offset(), "the compressed data are corrupt");
    }
  }

  z_stream stream_{};
  bool ended_ = false;
  std::uint64_t consumed_ = 0;  // of the compressed bytes, those handed to zlib
  unsigned char input_[std::size_t{1} << 16];
};

}  // namespace

std::vector<ZipMember> read_zip_directory(const InputFile& file) {
  const Directory directory = find_directory(file);
  if (directory.members > directory.bytes / kCentralSize) {
    file.bad(directory.at, "{} members do not fit in a directory of {} bytes", directory.members, directory.bytes);
  }
  if (directory.members > kMaxZipMembers || directory.bytes > kMaxDirectory) {
    fail_at(Status::kLimit, file.name(), directory.at,
            "the archive has {} members in a directory of {} bytes; the limits are {} and {}", directory.members,
            directory.bytes, kMaxZipMembers, kMaxDirectory);
  }
  std::string bytes(static_cast<std::size_t>(directory.bytes), '\0');
  file.read(directory.at, bytes.data(), bytes.size(), "the directory");

  std::vector<ZipMember> members;
  std::unordered_set<std::string> names;
  std::size_t at = 0;
  for (std::uint64_t n = 0; n < directory.members; ++n) {
    const std::uint64_t entry_at = directory.at + at;
    if (bytes.size() - at < kCentralSize) file.bad(entry_at, "the directory ends within an entry");
    const Record entry(bytes.data() + at);
    if (entry.u32(0) != kCentralSignature) file.bad(entry_at, "no directory entry stands here");
    const std::size_t name_bytes = entry.u16(28), extra_bytes = entry.u16(30), comment_bytes = entry.u16(32);
    if (name_bytes + extra_bytes + comment_bytes > bytes.size() - at - kCentralSize) {
      file.bad(entry_at, "the directory ends within an entry");
    }
    ZipMember member;
    member.entry_at = entry_at;
    member.flags = entry.u16(8);
    member.method = entry.u16(10);
    member.crc = entry.u32(16);
    member.compressed = entry.u32(20);
    member.size = entry.u32(24);
    member.header_at = entry.u32(42);
    member.name = bytes.substr(at + kCentralSize, name_bytes);
    if (entry.u16(34) != 0 && entry.u16(34) != kSaturated16) {
      file.bad(entry_at, "the archive is split over several files");
    }
    read_extra64(file, entry_at, std::string_view(bytes).substr(at + kCentralSize + name_bytes, extra_bytes), member);
    if (!names.insert(member.name).second) file.bad(entry_at, "a second member {}", in_quotes(member.name, 80));
    check_local_header(file, member, directory.at);
    check_member(file, member);
    members.push_back(std::move(member));
    at += kCentralSize + name_bytes + extra_bytes + comment_bytes;
  }
  if (at != bytes.size()) file.bad(directory.at + at, "something follows the last directory entry");
  check_overlaps(file, members);
  return members;
}

std::unique_ptr<ByteSource> open_zip_member(const InputFile& file, const ZipMember& member) {
  if (member.method == kDeflated) return std::make_unique<InflateSource>(file, member);
  return std::make_unique<StoredSource>(file, member);
}

}  // namespace ag
