// SPDX-License-Identifier: Apache-2.0
// Errors carry a status and a sentence, thrown where the fact is known, with the value. src/api turns them into C
// statuses.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace ag {

// The same numbers as attngraph_status; src/api asserts it.
enum class Status : int {
  kOk = 0,
  kArgument,
  kShape,
  kDType,
  kNonfinite,
  kRange,
  kFormat,
  kUnsupported,
  kNotFound,
  kLimit,
  kCapacity,
  kOutOfMemory,
  kDeviceOutOfMemory,
  kNoDevice,
  kDeviceLost,
  kForked,
  kIo,
  kNoSpace,
  kCancelled,
  kBusy,
  kInternal,
};

class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  Status status() const noexcept { return status_; }

 private:
  Status status_;
};

// fail(Status::kShape, "D is {}; the limit is {}", d, kMaxHeadDim)
template <class... Args>
[[noreturn]] void fail(Status status, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(status, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ag
