// SPDX-License-Identifier: Apache-2.0
#include "fault.hpp"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "machine.hpp"
#include "runtime.hpp"

#if defined(__x86_64__)
#include <ucontext.h>
#endif

namespace ag::emu {

std::string describe_code(const void* place) {
  Dl_info info{};
  if (dladdr(place, &info) == 0 || info.dli_fname == nullptr) return "an unknown place";
  const std::string object = info.dli_fname;
  const auto offset =
      static_cast<std::size_t>(static_cast<const char*>(place) - static_cast<const char*>(info.dli_fbase));
  char hex[32];
  std::snprintf(hex, sizeof hex, "0x%zx", offset);
  if (object.find('\'') == std::string::npos) {
    const std::string command = "addr2line -Cfps -e '" + object + "' " + hex + " 2>/dev/null";
    std::string line;
    if (std::FILE* const pipe = popen(command.c_str(), "r")) {
      char buffer[512];
      while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) line += buffer;
      pclose(pipe);
    }
    while (!line.empty() && line.back() == '\n') line.pop_back();
    if (!line.empty() && line.find("??") == std::string::npos) return line;
  }
  return object + "+" + hex;
}

#if defined(__x86_64__)

namespace {

constexpr std::array kSignals = {SIGSEGV, SIGBUS, SIGFPE};

struct Fault {
  int signal = 0;
  void* address = nullptr;
  void* code = nullptr;
};
Fault g_fault;

// Where the thread goes on: on a stack of its own, for the thread's may be what is exhausted.
[[noreturn]] void land() {
  const Fault fault = g_fault;
  std::string what;
  if (fault.signal == SIGFPE) {
    what = "an arithmetic fault (an integer division by zero)";
  } else if (machine().current().stack->guards(fault.address)) {
    what = "the thread's stack is exhausted";
  } else {
    char address[32];
    std::snprintf(address, sizeof address, "%p", fault.address);
    what = std::string("a wild access at ") + address + ", " + describe_memory(fault.address) +
           " (or one that is not aligned to its vector type)";
  }
  machine().fail_and_leave(what + ", in " + describe_code(fault.code));
}

const Stack& landing_stack() {
  static const Stack stack(256 * 1024, 0);
  return stack;
}

void handle(int signal, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (!in_kernel()) {  // not ours: as if there were no handler
    ::signal(signal, SIG_DFL);
    return;
  }
  g_fault = {signal, info->si_addr, reinterpret_cast<void*>(registers[REG_RIP])};
  registers[REG_RIP] = reinterpret_cast<greg_t>(&land);
  // As after a call: 8 below a multiple of 16.
  registers[REG_RSP] = (reinterpret_cast<greg_t>(landing_stack().start()) & ~greg_t{15}) - 8;
}

}  // namespace

FaultGuard::FaultGuard() {
  if (address_sanitizer()) return;
  active_ = true;
  landing_stack();
  static std::vector<char> signal_stack(64 * 1024);
  stack_t stack{};
  stack.ss_sp = signal_stack.data();
  stack.ss_size = signal_stack.size();
  sigaltstack(&stack, &stack_before_);
  struct sigaction action {};
  action.sa_sigaction = &handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
}

FaultGuard::~FaultGuard() {
  if (!active_) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  sigaltstack(&stack_before_, nullptr);
}

#else

FaultGuard::FaultGuard() = default;
FaultGuard::~FaultGuard() = default;

#endif

}  // namespace ag::emu
