// SPDX-License-Identifier: Apache-2.0
#include "output_file.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>
#include <system_error>

#include "../core/error.hpp"
#include "escape.hpp"

namespace ag {
namespace {

constexpr std::size_t kOutputBuffer = std::size_t{1} << 20;
constexpr std::size_t kSpoolBuffer = std::size_t{1} << 18;

[[noreturn]] void fail_write(const std::string& name, const char* what, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;
  fail(full ? Status::kNoSpace : Status::kIo, "{}: {} failed: {}", name, what, std::generic_category().message(error));
}

// Writing to a pipe that nobody reads raises SIGPIPE, which ends the process; a library must answer with an error.
// Held back in this thread during the write, and taken away if the write raised it.
class HoldSigpipe {
 public:
  HoldSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    if (!was_pending_) pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~HoldSigpipe() {
    if (was_pending_) return;
    const timespec now{};
    while (sigtimedwait(&pipe_, nullptr, &now) < 0 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  HoldSigpipe(const HoldSigpipe&) = delete;
  HoldSigpipe& operator=(const HoldSigpipe&) = delete;

 private:
  sigset_t pipe_, before_;
  bool was_pending_;
};

int write_all(int fd, const char* bytes, std::size_t count) {
  while (count > 0) {
    constexpr std::size_t kLargestWrite = std::size_t{1} << 30;
    const ssize_t put = ::write(fd, bytes, std::min(count, kLargestWrite));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    if (put == 0) return EIO;
    bytes += put;
    count -= static_cast<std::size_t>(put);
  }
  return 0;
}

std::string temporary_name() {
  std::uint64_t number = 0;
  if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
    static std::atomic<std::uint64_t> calls = 0;
    number = (static_cast<std::uint64_t>(::getpid()) << 32) + ++calls;
  }
  return fmt::format(".attngraph-{:016x}.tmp", number);
}

// A new file in `directory`; its name. Never one that exists, never through a link.
int create_temporary(int directory, mode_t mode, std::string& name) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    name = temporary_name();
    const int fd = ::openat(directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

std::string path_of(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

// A new file in `directory` that has no name, so that it is gone when the process is, however that ends. -1 where the
// file system has none, or no name could be given to it later.
int create_nameless(int directory, mode_t mode) {
  const int fd = ::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
  if (fd >= 0 && ::access(path_of(fd).c_str(), F_OK) != 0) {
    ::close(fd);
    return -1;
  }
  return fd;
}

// Names of open descriptors: to open /dev/stdout anew would truncate what a shell redirected it to.
std::optional<int> descriptor_of(const std::string& path) {
  if (path == "-" || path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  for (const std::string_view prefix : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(prefix)) continue;
    int fd = -1;
    const char* end = path.data() + path.size();
    const auto [last, error] = std::from_chars(path.data() + prefix.size(), end, fd);
    if (error == std::errc{} && last == end && fd >= 0) return fd;
  }
  return std::nullopt;
}

}  // namespace

void BufferedWriter::make_room(std::size_t bytes) {
  flush();
  if (bytes <= allocated_ - used_) return;
  // A writer that is not attached keeps what it holds.
  const std::size_t wanted = std::max(capacity_, used_ + bytes);
  auto larger = std::make_unique_for_overwrite<char[]>(wanted);
  if (used_ > 0) std::memcpy(larger.get(), buffer_.get(), used_);
  buffer_ = std::move(larger);
  allocated_ = wanted;
}

void BufferedWriter::write(std::string_view bytes) {
  if (bytes.empty()) return;
  if (attached() && bytes.size() >= capacity_) {
    flush();
    write_out(bytes.data(), bytes.size());
    return;
  }
  char* to = room(bytes.size());
  std::memcpy(to, bytes.data(), bytes.size());
  advance(to + bytes.size());
}

void BufferedWriter::flush() {
  if (!attached() || used_ == 0) return;
  // Forgotten even when the write fails: the error is told once, and the file is lost anyway.
  const std::size_t count = std::exchange(used_, 0);
  write_out(buffer_.get(), count);
}

void BufferedWriter::write_out(const char* bytes, std::size_t count) {
  std::optional<HoldSigpipe> hold;
  if (may_be_pipe_) hold.emplace();
  if (const int error = write_all(fd_, bytes, count); error != 0) fail_write(name_, "writing", error);
  written_ += count;
}

OutputFile::OutputFile(const std::string& path)
    : writer_(path == "-" ? "standard output" : in_quotes(path), kOutputBuffer) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    fail(Status::kArgument, "{}: the output needs a path, or - for standard output", name());
  }
  if (const auto fd = descriptor_of(path)) {
    fd_ = *fd;
    owns_fd_ = false;
    writer_.attach(fd_, true);
    return;
  }
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if ((exists && S_ISDIR(status.st_mode)) || path.ends_with('/')) {
    fail(Status::kIo, "{}: is a directory; name a file in it", name());
  }
  if (exists && !S_ISREG(status.st_mode)) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd_ < 0) fail_write(name(), "opening", errno);
    writer_.attach(fd_, true);
    return;
  }
  const std::size_t slash = path.rfind('/');
  base_ = slash == std::string::npos ? path : path.substr(slash + 1);
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  open_replacement(directory, exists ? status.st_mode & 0777u : 0666u);
  // A file that is replaced keeps its permissions, which the umask must not narrow. A file system may refuse.
  if (exists && ::fchmod(fd_, status.st_mode & 0777u) != 0) errno = 0;
  writer_.attach(fd_, false);
}

void OutputFile::open_replacement(const std::string& directory, unsigned mode) {
  directory_ = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory_ < 0) {
    const int error = errno;
    fail_write(name(), fmt::format("opening the directory {}", in_quotes(directory)).c_str(), error);
  }
  // A name that cannot be is better known now than when the work is done.
  struct stat status {};
  int error = ::fstatat(directory_, base_.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ? errno : 0;
  if (error != ENAMETOOLONG) {
    fd_ = create_nameless(directory_, mode);
    if (fd_ < 0) fd_ = create_temporary(directory_, mode, temporary_);
    error = fd_ < 0 ? errno : 0;
  }
  if (error != 0) {
    ::close(directory_);
    fail_write(name(), "creating a file beside it", error);
  }
}

OutputFile::~OutputFile() {
  if (fd_ >= 0 && owns_fd_) ::close(fd_);
  if (directory_ >= 0) {
    if (!temporary_.empty()) ::unlinkat(directory_, temporary_.c_str(), 0);
    if (!previous_.empty()) ::unlinkat(directory_, previous_.c_str(), 0);
    ::close(directory_);
  }
}

void OutputFile::complete() {
  writer_.flush();
  if (!is_replaced()) return;
  if (::fsync(fd_) != 0) fail_write(name(), "writing to the disk", errno);
  if (temporary_.empty()) return;  // it is published by its descriptor
  if (::close(std::exchange(fd_, -1)) != 0) fail_write(name(), "closing", errno);
}

// Where a nameless file can be made, but not be named.
void OutputFile::copy_to_named() {
  struct stat status {};
  const int copy = ::fstat(fd_, &status) == 0 ? create_temporary(directory_, status.st_mode & 0777u, temporary_) : -1;
  int error = copy < 0 ? errno : 0;
  auto buffer = std::make_unique_for_overwrite<char[]>(kOutputBuffer);
  for (off_t at = 0; error == 0 && at < status.st_size;) {
    const ssize_t got = ::pread(fd_, buffer.get(), kOutputBuffer, at);
    if (got < 0 && errno == EINTR) continue;
    error = got <= 0 ? (got < 0 ? errno : EIO) : write_all(copy, buffer.get(), static_cast<std::size_t>(got));
    at += got;
  }
  if (error == 0 && (::fchmod(copy, status.st_mode & 0777u) != 0 || ::fsync(copy) != 0)) error = errno;
  if (copy >= 0 && ::close(copy) != 0 && error == 0) error = errno;
  if (error != 0) fail_write(name(), "putting the finished file in its place", error);
}

void OutputFile::publish() {
  if (!is_replaced()) {
    if (owns_fd_ && ::close(std::exchange(fd_, -1)) != 0) fail_write(name(), "closing", errno);
    return;
  }
  constexpr const char* kPlacing = "putting the finished file in its place";
  bool placed = false;
  if (temporary_.empty()) {
    // A link replaces nothing: over a file that is there it needs a name of its own first, for a moment.
    const auto link_as = [&](const std::string& to) {
      return ::linkat(AT_FDCWD, path_of(fd_).c_str(), directory_, to.c_str(), AT_SYMLINK_FOLLOW) == 0;
    };
    placed = link_as(base_);
    for (int attempt = 0; !placed && errno == EEXIST && temporary_.empty() && attempt < 100; ++attempt) {
      if (std::string other = temporary_name(); link_as(other)) temporary_ = std::move(other);  // a copy could fail
    }
    if (!placed && temporary_.empty()) copy_to_named();
  }
  if (!placed && ::renameat(directory_, temporary_.c_str(), directory_, base_.c_str()) != 0) {
    fail_write(name(), kPlacing, errno);
  }
  temporary_.clear();
  // The name, too, shall survive a crash. The file is in its place, whether the directory can be synced or not: no
  // failure any more.
  (void)::fsync(directory_);
}

void OutputFile::keep_previous() {
  std::string other = temporary_name();
  if (!is_replaced()) return;
  if (::linkat(directory_, base_.c_str(), directory_, other.c_str(), 0) == 0) {
    previous_ = std::move(other);  // a copy could fail, and leave the link
  } else {
    was_absent_ = errno == ENOENT;  // otherwise a file system without links: what is replaced cannot come back
  }
}

void OutputFile::withdraw() {
  if (was_absent_) {
    ::unlinkat(directory_, base_.c_str(), 0);
  } else if (!previous_.empty() && ::renameat(directory_, previous_.c_str(), directory_, base_.c_str()) == 0) {
    previous_.clear();
  }
}

void OutputFile::publish_all(std::span<OutputFile* const> files) {
  if (files.size() == 1) return files.front()->publish();
  std::size_t published = 0;
  try {
    for (OutputFile* file : files) file->keep_previous();
    for (; published < files.size(); ++published) files[published]->publish();
  } catch (...) {
    for (std::size_t n = 0; n < published; ++n) files[n]->withdraw();
    throw;
  }
}

int OutputFile::open_spool() const {
  const std::string elsewhere = std::filesystem::temp_directory_path();
  const int directory = is_replaced() ? directory_ : ::open(elsewhere.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  std::string temporary;
  int fd = directory < 0 ? -1 : create_nameless(directory, 0600);
  const bool nameless = fd >= 0;
  if (directory >= 0 && !nameless) fd = create_temporary(directory, 0600, temporary);
  int error = fd < 0 ? errno : 0;
  // Without a name it is gone when the process is, however that ends.
  if (fd >= 0 && !nameless && ::unlinkat(directory, temporary.c_str(), 0) != 0) {
    error = errno;
    ::close(std::exchange(fd, -1));
  }
  if (!is_replaced() && directory >= 0) ::close(directory);
  if (fd < 0) fail_write(name(), "creating a temporary file for it", error);
  return fd;
}

SpoolFile::SpoolFile(const OutputFile& beside, bool with_crc)
    : beside_(beside), writer_(beside.name(), kSpoolBuffer), with_crc_(with_crc) {}

SpoolFile::~SpoolFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SpoolFile::append(const void* bytes, std::size_t count) {
  const char* from = static_cast<const char*>(bytes);
  while (count > 0) {
    const std::size_t piece = std::min(count, kSpoolBuffer);
    if (with_crc_) {
      crc_ = static_cast<std::uint32_t>(
          crc32(crc_, reinterpret_cast<const unsigned char*>(from), static_cast<uInt>(piece)));
    }
    if (fd_ < 0 && writer_.size() + piece > kSpoolBuffer) {
      fd_ = beside_.open_spool();
      writer_.attach(fd_, false);
    }
    writer_.write({from, piece});
    from += piece;
    count -= piece;
  }
}

void SpoolFile::replay(const std::function<void(std::string_view)>& piece) {
  if (fd_ < 0) {
    if (!writer_.buffered().empty()) piece(writer_.buffered());
    return;
  }
  writer_.flush();
  auto buffer = std::make_unique_for_overwrite<char[]>(kOutputBuffer);
  for (std::uint64_t at = 0; at < size();) {
    const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kOutputBuffer, size() - at));
    std::size_t have = 0;
    while (have < wanted) {
      const ssize_t got = ::pread(fd_, buffer.get() + have, wanted - have, static_cast<off_t>(at + have));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail_write(writer_.name(), "reading back a temporary file", got < 0 ? errno : EIO);
      have += static_cast<std::size_t>(got);
    }
    piece({buffer.get(), wanted});
    at += wanted;
  }
}

}  // namespace ag
