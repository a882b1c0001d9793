// SPDX-License-Identifier: Apache-2.0
// Structs that callers fill begin with their size, so that callers and libraries of different ages understand each
// other.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "../core/error.hpp"

namespace ag::api {

// Where the fields of a struct begin: a size that an older caller may give is one of these, never the middle of a
// field. Every field is named, the last one at the end: the assertion finds one that is not.
#define ATTNGRAPH_FIELD_STARTS(type, last, ...)                                                     \
  [] {                                                                                              \
    constexpr std::size_t kAfterLast = offsetof(type, last) + sizeof(type::last);                   \
    static_assert((kAfterLast + alignof(type) - 1) / alignof(type) * alignof(type) == sizeof(type), \
                  "a field of " #type " is not named");                                             \
    return std::to_array<std::size_t>({__VA_ARGS__});                                               \
  }()

// A copy of `given` in today's layout. Fields that an older caller does not know keep `defaults`; fields that only a
// newer caller knows must be zero, because what they ask for cannot be done. NULL: the defaults.
template <class T>
T read_struct(const T* given, const T& defaults, const char* name, const char* init_macro,
              std::span<const std::size_t> field_starts) {
  static_assert(std::is_trivially_copyable_v<T> && offsetof(T, struct_size) == 0);
  constexpr std::size_t kSizeLimit = 4096;  // more is not a struct from the future but memory never initialised
  T out = defaults;
  if (given == nullptr) return out;
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof(size));
  if (size < sizeof(size) || size > kSizeLimit) {
    fail(Status::kArgument, "{}.struct_size is {}, outside {} to {}; begin with {}", name, size, sizeof(size),
         kSizeLimit, init_macro);
  }
  if (size < sizeof(T) && std::find(field_starts.begin(), field_starts.end(), size) == field_starts.end()) {
    fail(Status::kArgument, "{}.struct_size is {}, the middle of a field; begin with {}", name, size, init_macro);
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  const auto nonzero = std::find_if(bytes + std::min(size, sizeof(T)), bytes + size, [](auto b) { return b != 0; });
  if (nonzero != bytes + size) {
    fail(Status::kArgument,
         "{} sets a field at byte {} that this library ({} bytes) does not know; use a newer library", name,
         nonzero - bytes, sizeof(T));
  }
  std::memcpy(&out, given, std::min(size, sizeof(T)));
  out.struct_size = sizeof(T);
  return out;
}

// A field that is off or on; anything else is memory never initialised.
inline void check_switch(std::int32_t value, const char* name) {
  if (value != 0 && value != 1) fail(Status::kArgument, "{} is {}; it is 0 or 1", name, value);
}

}  // namespace ag::api
