// SPDX-License-Identifier: Apache-2.0
// Stacks and the switch between them: what a CUDA thread is made of here.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace ag::emu {

// A mapped stack with guard pages below it.
class Stack {
 public:
  Stack(std::size_t bytes, std::size_t serial);
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  std::byte* bottom() const { return bottom_; }
  std::size_t bytes() const { return bytes_; }
  bool contains(const void* p) const;
  bool guards(const void* p) const;  // p is in the guard pages: the stack is exhausted
  std::byte* start() const { return start_; }

 private:
  std::byte* mapping_ = nullptr;
  std::byte* bottom_ = nullptr;  // above the guard pages
  std::byte* start_ = nullptr;   // where the first frame goes
  std::size_t bytes_ = 0;
};

class StackPool {
 public:
  Stack* take();
  void give(Stack* stack) { free_.push_back(stack); }

 private:
  std::vector<std::unique_ptr<Stack>> all_;
  std::vector<Stack*> free_;
};

// What is kept of a suspended flow of control.
struct Context {
  void* state = nullptr;         // stack pointer; unused where the switch is not our own
  void* fake_stack = nullptr;    // AddressSanitizer's
  const Stack* stack = nullptr;  // null: the host thread's own
};

// A context that calls entry() on the stack when it is first switched to. entry must not return.
void prepare(Context& context, const Stack& stack, void (*entry)());
// Suspends `from` and goes on with `to`; returns when something switches back to `from`.
void switch_context(Context& from, Context& to);
// The same for a flow that ends: nothing may switch back to it.
[[noreturn]] void leave_context(Context& from, Context& to);

// True in a process that AddressSanitizer watches, whether or not this file is instrumented.
bool address_sanitizer();

}  // namespace ag::emu
