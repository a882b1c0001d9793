// SPDX-License-Identifier: Apache-2.0
#include "guard.hpp"

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace ag::api {
namespace {

struct LastError {
  std::string text;
  const char* shown = "";  // text, or a constant when there was no memory to keep one
};

LastError& last_error() noexcept {
  thread_local LastError error;
  return error;
}

attngraph_status report(Status status, const char* sentence) noexcept {
  LastError& error = last_error();
  try {
    error.text = sentence;
    error.shown = error.text.c_str();
  } catch (...) {
    error.shown = "out of host memory, also for the message of this error";
  }
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

const char* attngraph_last_error(void) { return ag::api::last_error().shown; }
