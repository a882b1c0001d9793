// SPDX-License-Identifier: Apache-2.0
#include "fiber.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

// Own assembly where there is some: five times faster than ucontext, which makes a system call for each switch.
// ATTNGRAPH_EMU_UCONTEXT chooses the other one, to test it.
#if defined(__x86_64__) && !defined(ATTNGRAPH_EMU_UCONTEXT)
#define ATTNGRAPH_EMU_OWN_SWITCH 1
#else
#define ATTNGRAPH_EMU_OWN_SWITCH 0
#include <ucontext.h>
#endif

// There in a program built with AddressSanitizer, null in others: one build of this library serves both.
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom, std::size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* fake_stack_save, const void** bottom_old,
                                                           std::size_t* size_old);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
}

namespace ag::emu {
namespace {

// What a stack keeps above its first frame.
#if ATTNGRAPH_EMU_OWN_SWITCH
constexpr std::size_t kStateBytes = 0;
#else
constexpr std::size_t kStateBytes = (sizeof(ucontext_t) + 63) / 64 * 64;
#endif

std::size_t page_bytes() {
  static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// AddressSanitizer may keep the frames of instrumented functions on a second stack, which is gone, or another one, once
// a switch has been announced: the functions around a switch are not instrumented.
#define ATTNGRAPH_EMU_BARE __attribute__((no_sanitize("address")))

// The host thread's stack, which AddressSanitizer wants to know when control goes back to it.
struct HostStack {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  HostStack() {
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
    void* p = nullptr;
    pthread_attr_getstack(&attributes, &p, &bytes);
    bottom = p;
    pthread_attr_destroy(&attributes);
  }
};

const HostStack& host_stack() {
  thread_local const HostStack host;
  return host;
}

ATTNGRAPH_EMU_BARE void announce(void** save, const Context& to) {
  if (__sanitizer_start_switch_fiber == nullptr) return;
  if (to.stack != nullptr) {
    __sanitizer_start_switch_fiber(save, to.stack->bottom(), to.stack->bytes());
  } else {
    const HostStack& host = host_stack();
    __sanitizer_start_switch_fiber(save, host.bottom, host.bytes);
  }
}

ATTNGRAPH_EMU_BARE void arrive(void* fake_stack) {
  if (__sanitizer_finish_switch_fiber != nullptr) __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

}  // namespace

bool address_sanitizer() { return __sanitizer_start_switch_fiber != nullptr; }

// A frame larger than the guard could step over it into whatever is mapped below. An odd number of pages from one stack
// to the next: whole powers of two between them would share one set of the table of pages (a TLB), and every switch
// would walk it.
static std::size_t guard_bytes() { return 65 * page_bytes(); }

Stack::Stack(std::size_t bytes, std::size_t serial) : bytes_(bytes) {
  const std::size_t guard = guard_bytes();
  void* const p =
      mmap(nullptr, bytes + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<std::byte*>(p);
  if (mprotect(mapping_, guard, PROT_NONE) != 0) {
    munmap(mapping_, bytes + guard);
    throw std::bad_alloc();
  }
  bottom_ = mapping_ + guard;
  // Stacks that all begin at the same offset in a page would share a few cache sets.
  start_ = bottom_ + bytes - kStateBytes - 256 - (serial % 61) * 64;
}

Stack::~Stack() { munmap(mapping_, bytes_ + guard_bytes()); }

bool Stack::contains(const void* p) const {
  const auto* const q = static_cast<const std::byte*>(p);
  return q >= bottom_ && q < bottom_ + bytes_;
}

bool Stack::guards(const void* p) const {
  const auto* const q = static_cast<const std::byte*>(p);
  return q >= mapping_ && q < bottom_;
}

Stack* StackPool::take() {
  if (free_.empty()) {
    const std::size_t kibibytes = address_sanitizer() ? 512 : 256;  // instrumented frames are larger
    all_.push_back(std::make_unique<Stack>(kibibytes * 1024, all_.size()));
    free_.push_back(all_.back().get());
  }
  Stack* const stack = free_.back();
  free_.pop_back();
  // A thread that was dropped in the middle of its frames left their red zones behind.
  if (__asan_unpoison_memory_region != nullptr) __asan_unpoison_memory_region(stack->bottom(), stack->bytes());
  return stack;
}

#if ATTNGRAPH_EMU_OWN_SWITCH

extern "C" void ag_emu_switch(void** save, void* load);
asm(R"(
        .text
        .p2align 4
        .hidden ag_emu_switch
        .globl  ag_emu_switch
        .type   ag_emu_switch, @function
ag_emu_switch:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   ag_emu_switch, .-ag_emu_switch
)");

namespace {
void (*g_entry)() = nullptr;
ATTNGRAPH_EMU_BARE void enter() {
  arrive(nullptr);
  g_entry();
  std::abort();
}
}  // namespace

void prepare(Context& context, const Stack& stack, void (*entry)()) {
  g_entry = entry;  // one entry serves all fibers
  // As ag_emu_switch leaves it: six registers, the address to return to, and a zero that ends backtraces. At enter()'s
  // first instruction the stack pointer is 8 below a multiple of 16.
  auto* words = reinterpret_cast<void**>(reinterpret_cast<std::uintptr_t>(stack.start()) & ~std::uintptr_t{15});
  words -= 8;
  std::memset(words, 0, 8 * sizeof(void*));
  words[6] = reinterpret_cast<void*>(&enter);
  context = {words, nullptr, &stack};
}

ATTNGRAPH_EMU_BARE void switch_context(Context& from, Context& to) {
  announce(&from.fake_stack, to);
  ag_emu_switch(&from.state, to.state);
  arrive(from.fake_stack);
}

ATTNGRAPH_EMU_BARE void leave_context(Context& from, Context& to) {
  announce(nullptr, to);
  ag_emu_switch(&from.state, to.state);
  std::abort();
}

#else

namespace {
void (*g_entry)() = nullptr;
ATTNGRAPH_EMU_BARE void enter() {
  arrive(nullptr);
  g_entry();
  std::abort();
}

// Above the first frame of the context's stack; the host thread's stands apart, and there is one at a time.
ucontext_t* state_of(const Context& context) {
  static ucontext_t host;
  if (context.stack == nullptr) return &host;
  return reinterpret_cast<ucontext_t*>(context.stack->bottom() + context.stack->bytes() - kStateBytes);
}
}  // namespace

void prepare(Context& context, const Stack& stack, void (*entry)()) {
  g_entry = entry;
  context.fake_stack = nullptr;
  context.stack = &stack;
  ucontext_t* const state = state_of(context);
  getcontext(state);
  state->uc_stack.ss_sp = stack.bottom();
  state->uc_stack.ss_size = static_cast<std::size_t>(stack.start() - stack.bottom());
  state->uc_link = nullptr;
  makecontext(state, &enter, 0);
}

ATTNGRAPH_EMU_BARE void switch_context(Context& from, Context& to) {
  announce(&from.fake_stack, to);
  swapcontext(state_of(from), state_of(to));
  arrive(from.fake_stack);
}

ATTNGRAPH_EMU_BARE void leave_context(Context&, Context& to) {
  announce(nullptr, to);
  setcontext(state_of(to));
  std::abort();
}

#endif

}  // namespace ag::emu
