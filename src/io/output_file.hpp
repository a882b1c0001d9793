// SPDX-License-Identifier: Apache-2.0
// Files that appear complete or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace ag {

// Buffered writes to a descriptor that somebody else owns. Failures name the file: kNoSpace when the disk is full,
// otherwise kIo.
class BufferedWriter {
 public:
  BufferedWriter(std::string name, std::size_t buffer_bytes) : name_(std::move(name)), capacity_(buffer_bytes) {}

  void attach(int fd, bool may_be_pipe) {
    fd_ = fd;
    may_be_pipe_ = may_be_pipe;
  }
  bool attached() const { return fd_ >= 0; }
  const std::string& name() const { return name_; }
  std::uint64_t size() const { return written_ + used_; }  // bytes so far

  // Room for at least `bytes`, to be filled from the start and ended with advance().
  char* room(std::size_t bytes) {
    if (bytes > allocated_ - used_) make_room(bytes);
    return buffer_.get() + used_;
  }
  void advance(const char* end) { used_ = static_cast<std::size_t>(end - buffer_.get()); }
  void write(std::string_view bytes);
  void flush();

  // Bytes not yet flushed; for a writer that was never attached these are all.
  std::string_view buffered() const { return {buffer_.get(), used_}; }

 private:
  void make_room(std::size_t bytes);
  void write_out(const char* bytes, std::size_t count);

  std::string name_;
  std::size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  std::size_t allocated_ = 0, used_ = 0;
  std::uint64_t written_ = 0;
  int fd_ = -1;
  bool may_be_pipe_ = false;
};

// The target of a writer. A regular file is written without a name (or under another one, where the file system has no
// nameless files) beside the target, which it replaces in publish(); without that it is gone and whatever stood there
// stays. Standard output ("-"), devices and pipes are
// written as they are.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  BufferedWriter& out() { return writer_; }
  const std::string& name() const { return writer_.name(); }
  bool is_replaced() const { return directory_ >= 0; }  // a file of its own, which publish() puts in place

  void complete();  // everything is on the disk
  void publish();   // ... and then under its own. Cannot leave a partial file behind
  // All of them or, should one fail, none: those that are in place already give way to what stood there.
  static void publish_all(std::span<OutputFile* const> files);

  // Descriptor of a new file without a name, on the disk of the target.
  int open_spool() const;

 private:
  void open_replacement(const std::string& directory, unsigned mode);
  void copy_to_named();
  void keep_previous();
  void withdraw();

  BufferedWriter writer_;
  std::string base_, temporary_;
  std::string previous_;  // another name of what stood there, as long as it may come back
  bool was_absent_ = false;
  int fd_ = -1;
  int directory_ = -1;
  bool owns_fd_ = true;
};

// Bytes set aside until the rest of the file is known. Small ones never leave memory. The file of `beside` must outlive
// it.
class SpoolFile {
 public:
  SpoolFile(const OutputFile& beside, bool with_crc);
  ~SpoolFile();
  SpoolFile(const SpoolFile&) = delete;
  SpoolFile& operator=(const SpoolFile&) = delete;

  void append(const void* bytes, std::size_t count);
  std::uint64_t size() const { return writer_.size(); }
  std::uint32_t crc() const { return crc_; }
  // All bytes in order, in pieces whose size is a multiple of 8 but for the last.
  void replay(const std::function<void(std::string_view)>& piece);

 private:
  const OutputFile& beside_;
  BufferedWriter writer_;
  bool with_crc_;
  std::uint32_t crc_ = 0;
  int fd_ = -1;
};

}  // namespace ag
