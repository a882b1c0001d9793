// SPDX-License-Identifier: Apache-2.0
// The plugin's one entry: a table that libattngraph checks before it uses anything else (src/backend/plugin.hpp).
#include "../src/backend/plugin.hpp"

#include <string_view>

namespace ag::cuda {
namespace {

const Backend* find(const char*) { return nullptr; }

}  // namespace
}  // namespace ag::cuda

extern "C" __attribute__((visibility("default"))) const ag::PluginTable* attngraph_cuda_plugin();
extern "C" const ag::PluginTable* attngraph_cuda_plugin() {
  static constexpr ag::PluginTable table{ag::kPluginInterface, ATTNGRAPH_BUILD_IDENTITY, &ag::cuda::find};
  return &table;
}
