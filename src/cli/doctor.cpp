// SPDX-License-Identifier: Apache-2.0
// attngraph doctor: what is installed and what this machine can do, for people and for bug reports.
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <attngraph/attngraph.hpp>
#include <fstream>
#include <memory>
#include <thread>

#include "command.hpp"
#include "table.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

unsigned allowed_threads() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<unsigned>(CPU_COUNT(&set));
  return std::max(1U, std::thread::hardware_concurrency());
}

std::uint64_t pages(int name) {
  const long count = sysconf(name), size = sysconf(_SC_PAGESIZE);
  return count > 0 && size > 0 ? static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(size) : 0;
}

// The container's limit, when it has one.
std::string memory() {
  std::string text = fmt::format("{} available of {}", bytes(pages(_SC_AVPHYS_PAGES)), bytes(pages(_SC_PHYS_PAGES)));
  std::ifstream limit("/sys/fs/cgroup/memory.max");
  if (std::uint64_t most = 0; limit >> most) text += fmt::format(", limited to {}", bytes(most));
  return text;
}

int doctor() {
  bool healthy = true;
  Table table({"<attngraph",
               fmt::format("<{}.{}.{}", ATTNGRAPH_VERSION_MAJOR, ATTNGRAPH_VERSION_MINOR, ATTNGRAPH_VERSION_PATCH)});
  std::string library = fmt::format("{}, ABI {}", version(), abi_version());
  if (abi_version() != ATTNGRAPH_ABI_VERSION) {
    library += fmt::format(": this command was built for ABI {}; install both from one release", ATTNGRAPH_ABI_VERSION);
    healthy = false;
  }
  table.row({"library", library});
  bool any = false;
  std::string_view found;
  for (const backend& b : backends()) {
    any = any || !b.unavailable;
    const std::string name = fmt::format("backend {}", b.name);
    table.row({name, b.unavailable ? "not available: " + sanitised(*b.unavailable) : "ok: " + sanitised(b.device)});
    // What was found all the same: plugin, driver, devices, libraries. Once, where two backends see the same.
    if (b.unavailable && b.device.starts_with("cuda, plugin") && b.device != found) {
      table.row({"", sanitised(b.device)});
      found = b.device;
    }
  }
  table.row({"threads", fmt::format("{} for this process, {} in the machine", allowed_threads(),
                                    std::thread::hardware_concurrency())});
  table.row({"memory", memory()});
  fmt::print("{}", table.text());
  return healthy && any ? kSuccess : kFailure;
}

}  // namespace

void add_doctor(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("doctor", "Versions, backends and what this machine offers");
  command->callback([&run] { run = doctor; });
}

}  // namespace attngraph::cli
