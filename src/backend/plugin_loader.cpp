// SPDX-License-Identifier: Apache-2.0
#include "plugin_loader.hpp"

#include <dlfcn.h>

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>

namespace ag {
namespace {

// The folder of the object that holds this code: libattngraph.so, or a program that has the library in it.
std::string own_folder() {
  Dl_info info{};
  static const char here = 0;
  if (dladdr(&here, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code failed;
  const std::filesystem::path file = std::filesystem::canonical(info.dli_fname, failed);
  return failed ? std::string() : file.parent_path().string();
}

// A folder that begins with $ORIGIN is named from that of the library, as in an rpath: trees that are moved, wheels.
std::string beside(const std::string& own, std::string_view folder) {
  constexpr std::string_view kOrigin = "$ORIGIN";
  if (folder.substr(0, kOrigin.size()) != kOrigin) return std::string(folder);
  if (own.empty()) return {};
  return std::filesystem::path(own + std::string(folder.substr(kOrigin.size()))).lexically_normal().string();
}

bool is_file(const std::string& path) {
  std::error_code failed;
  return std::filesystem::is_regular_file(path, failed);
}

std::string_view text_or(const char* text, std::string_view otherwise) { return text != nullptr ? text : otherwise; }

}  // namespace

Plugin open_plugin(const std::string& path) {
  Plugin plugin;
  plugin.path = path;
  // All symbols now, so that what is missing is said here and not met later; local, so that it meets none of ours.
  void* const module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    plugin.problem = fmt::format("'{}' cannot be opened: {}", path, text_or(dlerror(), "no reason given"));
    return plugin;
  }
  const auto entry = reinterpret_cast<PluginEntry>(dlsym(module, kCudaPluginEntry));
  const PluginTable* const table = entry != nullptr ? entry() : nullptr;
  if (entry == nullptr) {
    plugin.problem = fmt::format("'{}' is no plugin of this library: it has no {}", path, kCudaPluginEntry);
  } else if (table == nullptr || table->interface != kPluginInterface) {
    plugin.problem = fmt::format("'{}' has plugin interface {}, this library has {}; install both from one release",
                                 path, table != nullptr ? table->interface : 0, kPluginInterface);
  } else if (text_or(table->build, "") != ATTNGRAPH_BUILD_IDENTITY) {
    plugin.problem = fmt::format("'{}' is of build {}, this library of {}; install both from one build", path,
                                 text_or(table->build, "?"), ATTNGRAPH_BUILD_IDENTITY);
  } else {
    plugin.table = table;
  }
  if (plugin.table == nullptr) dlclose(module);
  return plugin;
}

Plugin find_plugin(const char* chosen) {
  if (chosen != nullptr && *chosen != '\0') {
    if (*chosen == '/') return open_plugin(chosen);
    return {nullptr, {}, fmt::format("ATTNGRAPH_CUDA_PLUGIN is '{}'; give an absolute path", chosen)};
  }
  std::string looked;
  const std::string own = own_folder();
  for (const std::string& folder : {own, beside(own, ATTNGRAPH_PLUGIN_FOLDER)}) {
    if (folder.empty()) continue;
    const std::string path = folder + "/" + kCudaPluginFile;
    if (is_file(path)) return open_plugin(path);
    looked += (looked.empty() ? "" : " or ") + folder;
  }
  return {nullptr,
          {},
          fmt::format("there is no {} in {}; this build has no CUDA backends, or they are not installed",
                      kCudaPluginFile, looked)};
}

const Plugin& cuda_plugin() {
  // Not from a program that runs with more rights than its caller.
  static const Plugin plugin = find_plugin(secure_getenv("ATTNGRAPH_CUDA_PLUGIN"));
  return plugin;
}

}  // namespace ag
