// SPDX-License-Identifier: Apache-2.0
#include <attngraph/attngraph.h>

#include <array>
#include <cstdlib>

#include "../core/dtype.hpp"
#include "../core/error.hpp"

namespace {

struct Words {
  ag::Status status;
  const char* name;
  const char* phrase;
};

#define ATTNGRAPH_WORDS(internal, suffix, phrase) \
  Words { ag::Status::internal, "ATTNGRAPH_" #suffix, phrase }

// In the order of the numbers.
constexpr std::array kWords{
    ATTNGRAPH_WORDS(kOk, OK, "success"),
    ATTNGRAPH_WORDS(kArgument, ERROR_ARGUMENT, "a value that no call accepts"),
    ATTNGRAPH_WORDS(kShape, ERROR_SHAPE, "shapes do not fit together"),
    ATTNGRAPH_WORDS(kDType, ERROR_DTYPE, "an element type that is not supported here"),
    ATTNGRAPH_WORDS(kNonfinite, ERROR_NONFINITE, "NaN or infinity in the data"),
    ATTNGRAPH_WORDS(kRange, ERROR_RANGE, "scores beyond what can be computed"),
    ATTNGRAPH_WORDS(kFormat, ERROR_FORMAT, "a broken file"),
    ATTNGRAPH_WORDS(kUnsupported, ERROR_UNSUPPORTED, "valid, but not supported"),
    ATTNGRAPH_WORDS(kNotFound, ERROR_NOT_FOUND, "not found"),
    ATTNGRAPH_WORDS(kLimit, ERROR_LIMIT, "a limit is exceeded"),
    ATTNGRAPH_WORDS(kCapacity, ERROR_CAPACITY, "a buffer is too small"),
    ATTNGRAPH_WORDS(kOutOfMemory, ERROR_OUT_OF_MEMORY, "out of host memory"),
    ATTNGRAPH_WORDS(kDeviceOutOfMemory, ERROR_DEVICE_OUT_OF_MEMORY, "out of device memory"),
    ATTNGRAPH_WORDS(kNoDevice, ERROR_NO_DEVICE, "the backend asked for cannot run on this machine"),
    ATTNGRAPH_WORDS(kDeviceLost, ERROR_DEVICE_LOST, "the device failed; make a new context"),
    ATTNGRAPH_WORDS(kForked, ERROR_FORKED, "a device context was used after fork()"),
    ATTNGRAPH_WORDS(kIo, ERROR_IO, "reading or writing failed"),
    ATTNGRAPH_WORDS(kNoSpace, ERROR_NO_SPACE, "no space left on the disk"),
    ATTNGRAPH_WORDS(kCancelled, ERROR_CANCELLED, "cancelled by the caller"),
    ATTNGRAPH_WORDS(kBusy, ERROR_BUSY, "the object is in use by another call"),
    ATTNGRAPH_WORDS(kInternal, ERROR_INTERNAL, "a bug in the library; please report the message"),
};
#undef ATTNGRAPH_WORDS

constexpr bool in_order() {
  for (std::size_t n = 0; n < kWords.size(); ++n) {
    if (static_cast<std::size_t>(kWords[n].status) != n) return false;
  }
  return true;
}
static_assert(in_order() && kWords.size() == ATTNGRAPH_ERROR_INTERNAL + 1);

// The numbers of the contract are those of the core.
template <class Public, class Internal>
constexpr bool same(Public a, Internal b) {
  return static_cast<int>(a) == static_cast<int>(b);
}
static_assert(same(ATTNGRAPH_OK, ag::Status::kOk) && same(ATTNGRAPH_ERROR_ARGUMENT, ag::Status::kArgument) &&
              same(ATTNGRAPH_ERROR_SHAPE, ag::Status::kShape) && same(ATTNGRAPH_ERROR_DTYPE, ag::Status::kDType) &&
              same(ATTNGRAPH_ERROR_NONFINITE, ag::Status::kNonfinite) &&
              same(ATTNGRAPH_ERROR_RANGE, ag::Status::kRange) && same(ATTNGRAPH_ERROR_FORMAT, ag::Status::kFormat) &&
              same(ATTNGRAPH_ERROR_UNSUPPORTED, ag::Status::kUnsupported) &&
              same(ATTNGRAPH_ERROR_NOT_FOUND, ag::Status::kNotFound) &&
              same(ATTNGRAPH_ERROR_LIMIT, ag::Status::kLimit) &&
              same(ATTNGRAPH_ERROR_CAPACITY, ag::Status::kCapacity) &&
              same(ATTNGRAPH_ERROR_OUT_OF_MEMORY, ag::Status::kOutOfMemory) &&
              same(ATTNGRAPH_ERROR_DEVICE_OUT_OF_MEMORY, ag::Status::kDeviceOutOfMemory) &&
              same(ATTNGRAPH_ERROR_NO_DEVICE, ag::Status::kNoDevice) &&
              same(ATTNGRAPH_ERROR_DEVICE_LOST, ag::Status::kDeviceLost) &&
              same(ATTNGRAPH_ERROR_FORKED, ag::Status::kForked) && same(ATTNGRAPH_ERROR_IO, ag::Status::kIo) &&
              same(ATTNGRAPH_ERROR_NO_SPACE, ag::Status::kNoSpace) &&
              same(ATTNGRAPH_ERROR_CANCELLED, ag::Status::kCancelled) &&
              same(ATTNGRAPH_ERROR_BUSY, ag::Status::kBusy) && same(ATTNGRAPH_ERROR_INTERNAL, ag::Status::kInternal));
static_assert(same(ATTNGRAPH_F64, ag::DType::kF64) && same(ATTNGRAPH_F32, ag::DType::kF32) &&
              same(ATTNGRAPH_F16, ag::DType::kF16) && same(ATTNGRAPH_BF16, ag::DType::kBF16) &&
              same(ATTNGRAPH_BOOL, ag::DType::kBool) && same(ATTNGRAPH_I32, ag::DType::kI32) &&
              same(ATTNGRAPH_I64, ag::DType::kI64));

const Words* find_words(attngraph_status status) {
  const auto number = static_cast<long long>(status);
  return number >= 0 && number < static_cast<long long>(kWords.size()) ? &kWords[static_cast<std::size_t>(number)]
                                                                       : nullptr;
}

}  // namespace

const char* attngraph_status_name(attngraph_status status) {
  const Words* words = find_words(status);
  return words != nullptr ? words->name : "ATTNGRAPH_UNKNOWN_STATUS";
}

const char* attngraph_status_phrase(attngraph_status status) {
  const Words* words = find_words(status);
  return words != nullptr ? words->phrase : "a status that this library does not know";
}

const char* attngraph_dtype_name(int32_t dtype) {
  return ag::is_dtype(dtype) ? ag::name_of(static_cast<ag::DType>(dtype)) : nullptr;
}

size_t attngraph_dtype_size(int32_t dtype) {
  return ag::is_dtype(dtype) ? ag::size_of(static_cast<ag::DType>(dtype)) : 0;
}

#define ATTNGRAPH_TEXT_(x) #x
#define ATTNGRAPH_TEXT(x) ATTNGRAPH_TEXT_(x)

const char* attngraph_version(void) {
  return ATTNGRAPH_TEXT(ATTNGRAPH_VERSION_MAJOR) "." ATTNGRAPH_TEXT(ATTNGRAPH_VERSION_MINOR) "." ATTNGRAPH_TEXT(
      ATTNGRAPH_VERSION_PATCH);
}

int32_t attngraph_abi_version(void) { return ATTNGRAPH_ABI_VERSION; }

void attngraph_string_free(char* text) { std::free(text); }
