// SPDX-License-Identifier: Apache-2.0
#include "sites.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

namespace ag::emu {
namespace {

std::uint32_t next_number(std::size_t size) {
  if (size >= Sites::kMany) throw std::length_error("checker: more than 2^24 places in the program");
  return static_cast<std::uint32_t>(size);
}

std::string run(const std::string& command) {
  std::string text;
  if (FILE* const pipe = popen(command.c_str(), "r")) {
    char line[1024];
    while (std::fgets(line, sizeof line, pipe) != nullptr) text += line;
    pclose(pipe);
  }
  return text;
}

std::string take_line(std::string& text) {
  const std::size_t end = text.find('\n');
  std::string line = text.substr(0, end);
  text = end == std::string::npos ? "" : text.substr(end + 1);
  return line;
}

// From the project's folder on: a build may have recorded where the tree stood, or relative to the build folder.
std::string shortened(const std::string& path) {
  std::size_t begin = 0;
  for (const char* const folder : {"/tests/", "/cuda/", "/src/"}) {
    const std::size_t at = path.rfind(folder);
    if (at != std::string::npos) begin = std::max(begin, at + 1);
  }
  return path.substr(begin);
}

}  // namespace

std::uint32_t Sites::add(std::uintptr_t address) {
  const auto [entry, is_new] = addresses_.try_emplace(address, 0);
  if (is_new) {
    entry->second = next_number(places_.size());
    places_.push_back({address, {}});
  }
  return entry->second;
}

std::uint32_t Sites::of(Site site) {
  const auto file = reinterpret_cast<std::uintptr_t>(site.file);
  const std::uint64_t key = file * 1'000'003 + static_cast<std::uint64_t>(site.line);
  const auto [entry, is_new] = lines_.try_emplace(key, 0);
  if (is_new) {
    entry->second = next_number(places_.size());
    places_.push_back({0, site});
  }
  return entry->second;
}

// By binutils' addr2line, once for each place that is reported.
const Sites::Named& Sites::name(std::uint32_t number) {
  const auto [entry, is_new] = names_.try_emplace(number);
  Named& named = entry->second;
  if (!is_new) return named;
  const Place& place = places_[number];
  if (place.address == 0) {
    named.where = shortened(place.line.file) + ":" + std::to_string(place.line.line);
    return named;
  }
  Dl_info info{};
  const std::uintptr_t call = place.address - 1;  // the call before the return address
  if (dladdr(reinterpret_cast<const void*>(call), &info) == 0 || info.dli_fname == nullptr) {
    named.where = "an address in no module";
    return named;
  }
  const std::uintptr_t offset = call - reinterpret_cast<std::uintptr_t>(info.dli_fbase);
  char hex[32];
  std::snprintf(hex, sizeof hex, "0x%zx", static_cast<std::size_t>(offset));
  std::string lines = run("addr2line -C -f -i -e '" + std::string(info.dli_fname) + "' " + hex + " 2>/dev/null");
  std::string function = take_line(lines);
  std::string where = take_line(lines);
  if (where.empty() || where[0] == '?') where = std::string(info.dli_fname) + "+" + hex;
  where = where.substr(0, where.find(" (discriminator"));
  named.where = shortened(where);
  named.functions = function;
  while (!lines.empty()) {
    function = take_line(lines);
    where = take_line(lines);
    where = where.substr(0, where.find(" (discriminator"));
    named.functions += ", in " + function;
    named.where += ", called from " + shortened(where);
  }
  return named;
}

std::string Sites::text(std::uint32_t number) { return name(number).where; }
std::string Sites::functions(std::uint32_t number) { return name(number).functions; }

}  // namespace ag::emu
