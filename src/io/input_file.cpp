// SPDX-License-Identifier: Apache-2.0
#include "input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "escape.hpp"

namespace ag {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

InputFile::InputFile(const std::string& path) : name_(in_quotes(path)) {
  if (path.find('\0') != std::string::npos) fail(Status::kNotFound, "{}: the path holds a NUL byte", name_);
  // Not blocking: opening a pipe without a writer would wait for ever.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd_ < 0 && path == "-")
    fail(Status::kNotFound, "{}: standard input is not read, since a file is read from many places; name a file",
         name_);
  if (fd_ < 0) fail(Status::kNotFound, "{}: cannot be opened: {}", name_, reason(errno));
  struct stat status {};
  const int error = ::fstat(fd_, &status) != 0 ? errno : 0;
  if (error != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd_);
    if (error != 0) fail(Status::kIo, "{}: {}", name_, reason(error));
    fail(Status::kNotFound, "{}: cannot be read as a file: it is {}", name_, kind_of(status.st_mode));
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(std::uint64_t offset, void* out, std::size_t count, const char* what) const {
  if (offset > size_ || count > size_ - offset) {
    bad(std::min(offset, size_), "{} needs {} bytes, but the file ends at byte {}", what, count, size_);
  }
  auto* to = static_cast<char*>(out);
  while (count > 0) {
    constexpr std::size_t kLargestRead = std::size_t{1} << 30;
    const ssize_t got = ::pread(fd_, to, std::min(count, kLargestRead), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_at(Status::kIo, name_, offset, "reading {} failed: {}", what, reason(errno));
    if (got == 0) fail_at(Status::kIo, name_, offset, "the file became shorter while {} was read", what);
    to += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::size_t>(got);
  }
}

void InputFile::refuse_pointer() const {
  constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/";
  char line[kPointer.size()] = {};
  if (size_ < sizeof line) return;
  read(0, line, sizeof line, "the first line");
  if (std::string_view(line, sizeof line) == kPointer)
    fail(Status::kFormat, "{}: a pointer of Git LFS, not the file that it stands for; `git lfs pull` brings that",
         name_);
}

void FileSource::read(void* out, std::size_t count, const char* what) {
  if (count > remaining()) bad(at_, "{} needs {} bytes, but {} remain", what, count, remaining());
  file_.read(at_, out, count, what);
  at_ += count;
}

}  // namespace ag
