// SPDX-License-Identifier: Apache-2.0
// CUDA's words for g++: included before every file of cuda/ that is compiled for the CPU (-include), with
// ATTNGRAPH_EMULATION defined. The toolkit's own headers declare types and the runtime API, so prototypes are the real
// ones; here stand the words that only nvcc knows.
#pragma once

#if !defined(ATTNGRAPH_EMULATION)
#error "device.hpp is for emulated builds: define ATTNGRAPH_EMULATION"
#endif

#include <cuda_runtime.h>

#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emu.hpp"
#include "ptx.hpp"
#include "shared.hpp"
#include "sync.hpp"

// The toolkit's headers make __global__, __device__, __host__ and __constant__ empty for g++.
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__ static_assert(false, "declare shared memory with ATTNGRAPH_SHARED or ATTNGRAPH_DYNAMIC_SHARED")
#undef __grid_constant__
#define __grid_constant__

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
inline constexpr int warpSize = 32;

namespace ag::cuda {
template <class T>
struct Identity {
  using type = T;
};
}  // namespace ag::cuda

namespace ag::emu {

template <class T>
T& shared_object(const void* key, Site site) {
  static_assert(std::is_trivially_destructible_v<T>, "objects in shared memory have no constructors");
  return *static_cast<T*>(shared_array(key, sizeof(T), alignof(T), site));
}

template <class... Parameters, class... Arguments>
cudaError_t launch_kernel(const char* arguments_text, Site site, const cudaLaunchConfig_t* config,
                          void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "a kernel takes all its parameters");
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "parameters are copied to the device as bytes");
  LaunchConfig c;
  c.grid = config->gridDim;
  c.block = config->blockDim;
  c.dynamic_shared_bytes = config->dynamicSmemBytes;
  c.stream = config->stream;
  c.kernel = reinterpret_cast<const void*>(kernel);
  ((c.parameter_bytes =
        (c.parameter_bytes + alignof(Parameters) - 1) / alignof(Parameters) * alignof(Parameters) + sizeof(Parameters)),
   ...);
  c.name = kernel_name(arguments_text);
  c.site = site;
  if (config->numAttrs != 0 && !attributes_allowed(config->attrs, config->numAttrs, c)) return cudaErrorNotSupported;
  std::tuple<Parameters...> copies(std::forward<Arguments>(arguments)...);
#if __has_builtin(__builtin_clear_padding)  // it holds whatever stood there, an address of memory since freed say
  std::apply([](Parameters&... each) { (__builtin_clear_padding(&each), ...); }, copies);
#endif
  std::apply([&](const Parameters&... each) { (c.arguments.push_back(std::as_bytes(std::span(&each, 1))), ...); },
             copies);
  return launch(c, [kernel, copies] { std::apply(kernel, copies); });
}

}  // namespace ag::emu

#define cudaLaunchKernelEx(config, ...) \
  ::ag::emu::launch_kernel(#__VA_ARGS__, ::ag::emu::Site::here(), config, __VA_ARGS__)

// macros.cuh leaves these to us. The key of a shared array is an address of its own for each declaration and instance.
#define ATTNGRAPH_SHARED(name, ...)                                                        \
  auto& name = ::ag::emu::shared_object<typename ::ag::cuda::Identity<__VA_ARGS__>::type>( \
      []() -> const void* {                                                                \
        static char key;                                                                   \
        return &key;                                                                       \
      }(),                                                                                 \
      ::ag::emu::Site::here())
#define ATTNGRAPH_DYNAMIC_SHARED(name) unsigned char* const name = ::ag::emu::dynamic_shared(::ag::emu::Site::here())

#define ATTNGRAPH_LIST(...) __VA_ARGS__
#define ATTNGRAPH_EMU_PTX(text, is_memory, outputs, inputs)                                              \
  do {                                                                                                   \
    static ::ag::emu::PtxInstruction ag_emu_instruction{text, {__FILE__, __LINE__}, is_memory, nullptr}; \
    ::ag::emu::run_ptx(ag_emu_instruction, ::ag::emu::operands(ATTNGRAPH_LIST outputs),                  \
                       ::ag::emu::operands(ATTNGRAPH_LIST inputs));                                      \
  } while (false)
#define ATTNGRAPH_PTX(text, outputs, inputs) ATTNGRAPH_EMU_PTX(text, false, outputs, inputs)
#define ATTNGRAPH_PTX_MEMORY(text, outputs, inputs) ATTNGRAPH_EMU_PTX(text, true, outputs, inputs)
#define ATTNGRAPH_OUT_R(x) ::ag::emu::output_r(::ag::emu::OperandKind::kOutR, x)
#define ATTNGRAPH_OUT_F(x) ::ag::emu::output_f(::ag::emu::OperandKind::kOutF, x)
#define ATTNGRAPH_IO_R(x) ::ag::emu::output_r(::ag::emu::OperandKind::kIoR, x)
#define ATTNGRAPH_IO_F(x) ::ag::emu::output_f(::ag::emu::OperandKind::kIoF, x)
#define ATTNGRAPH_IO_L(x) ::ag::emu::output_l(::ag::emu::OperandKind::kIoL, x)
#define ATTNGRAPH_IN_R(x) ::ag::emu::input_r(x)
#define ATTNGRAPH_IN_F(x) ::ag::emu::input_f(x)
#define ATTNGRAPH_IN_L(x) ::ag::emu::input_l(x)
#define ATTNGRAPH_IN_N(x) ::ag::emu::constant<(x)>()
#define ATTNGRAPH_IN_SHARED(p) ::ag::emu::input_shared(p)

#include "device/atomics.hpp"
#include "device/math.hpp"
#include "device/sync.hpp"
