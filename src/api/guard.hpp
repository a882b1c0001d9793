// SPDX-License-Identifier: Apache-2.0
// The border between exceptions and statuses: every call that can fail runs inside guarded(), and nothing crosses it,
// neither an exception nor the caller's floating-point settings.
#pragma once

#include <attngraph/attngraph.h>

#include <atomic>
#include <utility>

#include "../core/error.hpp"
#include "float_env.hpp"

namespace ag::api {

// Of the exception being handled; its sentence becomes attngraph_last_error().
attngraph_status translate_current_exception() noexcept;

template <class F>
attngraph_status guarded(F&& work) noexcept {
  const DefaultFloatEnv env;
  try {
    std::forward<F>(work)();
    return ATTNGRAPH_OK;
  } catch (...) {
    return translate_current_exception();
  }
}

// For calls that answer with a value: `otherwise` when it cannot be had.
template <class T, class F>
T answer_or(T otherwise, F&& question) noexcept {
  try {
    return std::forward<F>(question)();
  } catch (...) {
    return otherwise;
  }
}

template <class T>
T& required(T* pointer, const char* name) {
  if (pointer == nullptr) fail(Status::kArgument, "{} is NULL; the call needs it", name);
  return *pointer;
}

// Holds an object for one call; a second call on it, from another thread or a callback, is told that it is busy.
class Occupied {
 public:
  Occupied(std::atomic<bool>& busy, const char* what) : busy_(busy) {
    if (busy_.exchange(true, std::memory_order_acquire))
      fail(Status::kBusy, "the {0} is in use by another call; use one {0} per thread", what);
  }
  ~Occupied() { busy_.store(false, std::memory_order_release); }
  Occupied(const Occupied&) = delete;
  Occupied& operator=(const Occupied&) = delete;

 private:
  std::atomic<bool>& busy_;
};

}  // namespace ag::api
