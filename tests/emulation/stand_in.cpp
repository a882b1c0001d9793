// SPDX-License-Identifier: Apache-2.0
// Until a runtime is linked: launches run at once, and every address is good.
#include "emu.hpp"

namespace ag::emu {

__attribute__((weak)) cudaError_t launch(LaunchConfig config, KernelBody body) {
  const cudaError_t code = check_launch(config);
  return code == cudaSuccess ? run_grid(config, body) : code;
}

__attribute__((weak)) const Memory::Allocation* Memory::find(const void*) {
  static const Allocation everything{nullptr, ~std::size_t{0}, 0, true};
  return &everything;
}

}  // namespace ag::emu
