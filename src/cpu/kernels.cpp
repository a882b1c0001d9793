// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#include <fmt/format.h>

#include "../core/error.hpp"
#include "targets.hpp"

// Older x86 sets and SVE add code and no user: scalar answers there.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h: this is what it compiles again and again.
#include "kernels-inl.hpp"

#if HWY_ONCE
namespace ag {
namespace cpu {

HWY_EXPORT(table_f32);
HWY_EXPORT(table_f64);
HWY_EXPORT(matrix_table_f32);
HWY_EXPORT(matrix_table_f64);
HWY_EXPORT(registers_of_target);

template <>
const Kernels<float>& kernels<float>() {
  return HWY_DYNAMIC_DISPATCH(table_f32)();
}
template <>
const Kernels<double>& kernels<double>() {
  return HWY_DYNAMIC_DISPATCH(table_f64)();
}
template <>
const MatrixKernels<float>& matrix_kernels<float>() {
  return HWY_DYNAMIC_DISPATCH(matrix_table_f32)();
}
template <>
const MatrixKernels<double>& matrix_kernels<double>() {
  return HWY_DYNAMIC_DISPATCH(matrix_table_f64)();
}
int vector_registers() { return HWY_DYNAMIC_DISPATCH(registers_of_target)(); }
int lanes_f32() { return static_cast<int>(kernels<float>().panel_keys / 2); }

}  // namespace cpu

std::vector<std::string> cpu_targets() {
  // Ask the processor anew, without a target forced before.
  std::vector<std::string> names;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) names.emplace_back(cpu::target_name(target));
  return names;
}

void force_cpu_target(const std::string& name) {
  hwy::SetSupportedTargetsForTest(0);
  std::int64_t chosen = 0;
  if (!name.empty()) {
    std::string known;
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      if (name == cpu::target_name(target)) chosen = target;
      known += fmt::format("{}{}", known.empty() ? "" : ", ", cpu::target_name(target));
    }
    if (chosen == 0) fail(Status::kArgument, "this machine has no target '{}'; it has {}", name, known);
    hwy::SetSupportedTargetsForTest(chosen);
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace ag
#endif
