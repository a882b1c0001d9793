// SPDX-License-Identifier: Apache-2.0
// Finds and opens libattngraph_cuda.so.
#pragma once

#include <string>

#include "plugin.hpp"

namespace ag {

struct Plugin {
  const PluginTable* table = nullptr;  // null: `problem` says why
  std::string path;                    // of the file that was found, "" when there is none
  std::string problem;                 // a sentence
};

// The module at an absolute path. Never throws for what the file holds: it becomes `problem`.
Plugin open_plugin(const std::string& path);

// Where the environment variable says (and then nowhere else), beside this library, in the configured folder; never in
// the working directory. `chosen` is the variable's value, null when it is not set.
Plugin find_plugin(const char* chosen);

// The one of this process, by ATTNGRAPH_CUDA_PLUGIN: looked for at the first call, from then on the same.
const Plugin& cuda_plugin();

}  // namespace ag
