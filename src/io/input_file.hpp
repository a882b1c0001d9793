// SPDX-License-Identifier: Apache-2.0
// An untrusted file: regular, of a known size, read in pieces into memory of our own (never mapped: a file that shrinks
// under a map kills the process).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "../core/error.hpp"

namespace ag {

// "'q.npy': header length 4294967280 exceeds the limit 65536 (byte 8)"
template <class... Args>
[[noreturn]] void fail_at(Status status, const std::string& name, std::uint64_t byte,
                          fmt::format_string<Args...> format, Args&&... args) {
  fail(status, "{}: {} (byte {})", name, fmt::format(format, std::forward<Args>(args)...), byte);
}

class InputFile {
 public:
  // kNotFound when it cannot be opened or is no regular file (a pipe would block, a device never ends).
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& name() const { return name_; }  // the path, fit for a message
  std::uint64_t size() const { return size_; }
  // Bytes [offset, offset + count); kFormat when they reach beyond the end, kIo when reading fails.
  void read(std::uint64_t offset, void* out, std::size_t count, const char* what) const;
  // kFormat when this is not the file itself, but the pointer to it that Git LFS leaves in its place.
  void refuse_pointer() const;

  template <class... Args>
  [[noreturn]] void bad(std::uint64_t byte, fmt::format_string<Args...> format, Args&&... args) const {
    fail_at(Status::kFormat, name_, byte, format, std::forward<Args>(args)...);
  }

 private:
  std::string name_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

// Bytes in sequence: a range of a file, or a compressed member of an archive.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual void read(void* out, std::size_t count, const char* what) = 0;
  virtual std::uint64_t remaining() const = 0;
  virtual std::uint64_t offset() const = 0;     // of the next byte, for messages
  virtual const std::string& name() const = 0;  // file, or file and member
  virtual void finish() {}                      // everything was read: check what can be checked only now

  template <class... Args>
  [[noreturn]] void bad(std::uint64_t byte, fmt::format_string<Args...> format, Args&&... args) const {
    fail_at(Status::kFormat, name(), byte, format, std::forward<Args>(args)...);
  }
};

class FileSource : public ByteSource {
 public:
  FileSource(const InputFile& file, std::uint64_t begin, std::uint64_t end) : file_(file), at_(begin), end_(end) {}
  void read(void* out, std::size_t count, const char* what) override;
  std::uint64_t remaining() const override { return end_ - at_; }
  std::uint64_t offset() const override { return at_; }
  const std::string& name() const override { return file_.name(); }

 private:
  const InputFile& file_;
  std::uint64_t at_, end_;
};

// Sizes computed from what a file says: an overflow is the file's fault, and the message names it.
template <class F>
auto checked_for(const std::string& name, std::uint64_t byte, F&& compute) {
  try {
    return compute();
  } catch (const Error& error) {
    fail_at(Status::kFormat, name, byte, "{}", error.what());
  }
}

}  // namespace ag
