// SPDX-License-Identifier: Apache-2.0
// What stands around a grid: options, counters, messages, the limits of a launch.
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string_view>

#include "machine.hpp"

namespace ag::emu {
namespace {

std::mutex g_mutex;  // of all below

std::string& error_message() {
  static std::string message;
  return message;
}

Options& current_options() {
  static Options options = options_from_environment();
  return options;
}

Schedule schedule_of(std::string_view word) {
  if (word == "forward") return Schedule::kForward;
  if (word == "reverse") return Schedule::kReverse;
  if (word == "random") return Schedule::kRandom;
  if (word == "warp") return Schedule::kWarpPriority;
  if (word == "fiber") return Schedule::kFiberPriority;
  throw std::invalid_argument("ATTNGRAPH_EMU_SCHEDULE: '" + std::string(word) +
                              "' is not forward, reverse, random, warp or fiber");
}

Copies copies_of(std::string_view word) {
  if (word == "lazy") return Copies::kLazy;
  if (word == "eager") return Copies::kEager;
  if (word == "random") return Copies::kRandom;
  throw std::invalid_argument("ATTNGRAPH_EMU_COPIES: '" + std::string(word) + "' is not lazy, eager or random");
}

std::string triple(const dim3& v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

}  // namespace

std::string text(Site site) {
  // Compilers are given paths in several ways; what is said is the path below the project's folder.
  std::string_view file = site.file;
  constexpr std::string_view root = ATTNGRAPH_SOURCE_DIR "/";
  if (file.substr(0, root.size()) == root) file.remove_prefix(root.size());
  for (;;) {
    if (file.substr(0, 2) == "./") {
      file.remove_prefix(2);
    } else if (file.substr(0, 3) == "../") {
      file.remove_prefix(3);
    } else {
      return std::string(file) + ":" + std::to_string(site.line);
    }
  }
}

std::string last_error() {
  const std::lock_guard lock(g_mutex);
  return error_message();
}

void clear_last_error() {
  const std::lock_guard lock(g_mutex);
  error_message().clear();
}

void record_error(std::string message) {
  const std::lock_guard lock(g_mutex);
  if (error_message().empty()) error_message() = std::move(message);
}

Options options_for(Schedule schedule, std::uint64_t seed) {
  Options options;
  options.schedule = schedule;
  options.seed = seed;
  if (schedule != Schedule::kForward) {
    options.resident_blocks = 3;
    options.shuffle_blocks = true;
    options.yield_before_atomic = 0.25;
  }
  return options;
}

Options options_from_environment() {
  Options options;
  if (const char* const value = std::getenv("ATTNGRAPH_EMU_SCHEDULE"); value != nullptr && *value != '\0') {
    const std::string_view words = value;
    const std::size_t colon = words.find(':');
    std::uint64_t seed = 1;
    if (colon != std::string_view::npos) {
      const char* const end = words.data() + words.size();
      const auto [stop, code] = std::from_chars(words.data() + colon + 1, end, seed);
      if (code != std::errc() || stop != end) {
        throw std::invalid_argument("ATTNGRAPH_EMU_SCHEDULE: the seed in '" + std::string(words) + "' is no number");
      }
    }
    options = options_for(schedule_of(words.substr(0, colon)), seed);
  }
  if (const char* const value = std::getenv("ATTNGRAPH_EMU_COPIES"); value != nullptr && *value != '\0') {
    options.copies = copies_of(value);
  }
  return options;
}

Options options() {
  const std::lock_guard lock(g_mutex);
  return current_options();
}

void set_options(const Options& options) {
  const std::lock_guard lock(g_mutex);
  current_options() = options;
}

Counters the_counters;
Counters counters() { return live_counters(); }
void reset_counters() { live_counters() = {}; }

const char* kernel_name(const char* arguments_text) {
  static std::set<std::string, std::less<>> names;
  const std::string_view all = arguments_text;
  std::size_t end = 0;
  for (int depth = 0; end < all.size() && (depth > 0 || all[end] != ','); ++end) {
    if (all[end] == '<' || all[end] == '(') ++depth;
    if (all[end] == '>' || all[end] == ')') --depth;
  }
  const std::lock_guard lock(g_mutex);
  auto it = names.find(all.substr(0, end));
  if (it == names.end()) it = names.emplace(all.substr(0, end)).first;
  return it->c_str();
}

bool attributes_allowed(const cudaLaunchAttribute* attributes, unsigned count, const LaunchConfig& config) {
  for (unsigned i = 0; i < count; ++i) {
    const cudaLaunchAttributeID id = attributes[i].id;
    if (id == cudaLaunchAttributeIgnore || id == cudaLaunchAttributePriority) continue;
    record_error(std::string(config.name) + ": " + text(config.site) +
                 ": launch refused: the emulator does not have launch "
                 "attribute " +
                 std::to_string(static_cast<int>(id)));
    return false;
  }
  return true;
}

cudaError_t check_launch(const LaunchConfig& c) {
  const auto refuse = [&](cudaError_t code, const std::string& why) {
    record_error(std::string(c.name) + ": " + text(c.site) + ": launch refused: " + why);
    return code;
  };
  const std::uint64_t threads = std::uint64_t{c.block.x} * c.block.y * c.block.z;
  if (threads == 0 || threads > 1024 || c.block.x > 1024 || c.block.y > 1024 || c.block.z > 64) {
    return refuse(cudaErrorInvalidConfiguration,
                  "block " + triple(c.block) + "; it has 1 to 1024 threads, z at most 64");
  }
  if (c.grid.x == 0 || c.grid.y == 0 || c.grid.z == 0 || c.grid.x > 2147483647u || c.grid.y > 65535 ||
      c.grid.z > 65535) {
    return refuse(cudaErrorInvalidConfiguration,
                  "grid " + triple(c.grid) + "; each is at least 1, x at most 2147483647, y and z at most 65535");
  }
  if (c.dynamic_shared_bytes > c.shared_limit_bytes) {
    return refuse(cudaErrorInvalidValue,
                  std::to_string(c.dynamic_shared_bytes) + " bytes of dynamic shared memory; the kernel's limit is " +
                      std::to_string(c.shared_limit_bytes) +
                      " (cudaFuncSetAttribute with cudaFuncAttributeMaxDynamicSharedMemorySize raises it)");
  }
  if (c.parameter_bytes > 32764) {
    return refuse(cudaErrorInvalidValue,
                  std::to_string(c.parameter_bytes) + " bytes of parameters; 32764 is the limit");
  }
  return cudaSuccess;
}

}  // namespace ag::emu
