// SPDX-License-Identifier: Apache-2.0
#include "guard.hpp"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>

namespace ag::api {
namespace {

constexpr const char* kNoMemoryForMessage = "out of host memory, also for the message of this error";

// A thread's latest message. Not thread_local: the C library ends the process when there is no memory to register a
// destructor, or for the storage itself.
class LastErrors {
 public:
  LastErrors() noexcept : has_key_(pthread_key_create(&key_, std::free) == 0) {}

  const char* get() const noexcept {
    const auto* own = has_key_ ? static_cast<const char*>(pthread_getspecific(key_)) : nullptr;
    if (own != nullptr) return own;
    return lost_.load(std::memory_order_relaxed) ? kNoMemoryForMessage : "";
  }

  void set(const char* sentence) noexcept {
    if (!has_key_) return;
    void* const before = pthread_getspecific(key_);
    const std::size_t length = std::strlen(sentence);
    auto* text = static_cast<char*>(std::malloc(length + 1));
    if (text != nullptr) std::memcpy(text, sentence, length + 1);
    if (text == nullptr || pthread_setspecific(key_, text) != 0) {
      std::free(text);
      text = nullptr;
      lost_.store(true, std::memory_order_relaxed);
      if (before == nullptr || pthread_setspecific(key_, nullptr) != 0) return;
    }
    std::free(before);
  }

 private:
  pthread_key_t key_{};
  bool has_key_;
  std::atomic<bool> lost_{false};  // a thread had no memory for its message
};

// Never destroyed: threads may end after it would be.
LastErrors& last_errors() noexcept {
  alignas(LastErrors) static unsigned char storage[sizeof(LastErrors)];
  static LastErrors& errors = *new (storage) LastErrors();
  return errors;
}

attngraph_status report(Status status, const char* sentence) noexcept {
  last_errors().set(sentence);
  return static_cast<attngraph_status>(status);
}

}  // namespace

attngraph_status translate_current_exception() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return report(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return report(Status::kOutOfMemory, "out of host memory; ask for less at a time (query range, heads, threshold)");
  } catch (const std::length_error&) {  // a container asked for more than the address space holds
    return report(Status::kOutOfMemory, "the answer is larger than the address space; ask for less at a time");
  } catch (const std::exception& error) {
    try {
      return report(Status::kInternal, fmt::format("unexpected: {}; please report it", error.what()).c_str());
    } catch (...) {
      return report(Status::kInternal, "unexpected error; please report it");
    }
  } catch (...) {
    return report(Status::kInternal, "an exception of unknown type, perhaps from a callback; please report it");
  }
}

}  // namespace ag::api

const char* attngraph_last_error(void) { return ag::api::last_errors().get(); }
