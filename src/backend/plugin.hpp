// SPDX-License-Identifier: Apache-2.0
// What the library and a plugin with backends say to each other. A plugin is a module of the same build: behind the two
// checked fields they share C++ types, and ag::Error passes between them.
#pragma once

#include <cstdint>

#include "backend.hpp"

namespace ag {

// Raised when the first two fields of PluginTable or the entry change; the rest is guarded by `build`.
inline constexpr std::uint32_t kPluginInterface = 1;

struct PluginTable {
  std::uint32_t interface = 0;  // kPluginInterface
  const char* build = nullptr;  // ATTNGRAPH_BUILD_IDENTITY: release and a hash of the shared headers and the compiler
  // Backends by name; nullptr when the plugin has none of that name. They live as long as the plugin.
  const Backend* (*find)(const char* name) = nullptr;
};

// The one symbol that a plugin exports. It does nothing but return the table: no device is touched.
using PluginEntry = const PluginTable* (*)();
inline constexpr char kCudaPluginEntry[] = "attngraph_cuda_plugin";
inline constexpr char kCudaPluginFile[] = "libattngraph_cuda.so";

}  // namespace ag
