// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#include <fmt/format.h>

#include "../core/error.hpp"
#include "pairs.hpp"
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
HWY_EXPORT(use_halves);

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
void use_halves(Kernels<float>& table, DType dtype) { HWY_DYNAMIC_DISPATCH(use_halves)(table, dtype); }

}  // namespace cpu

std::vector<std::string> cpu_targets() {
  // Ask the processor anew, without a target forced before.
  std::vector<std::string> names;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = cpu::target_name(target);
    if (name == "AVX512") {
      for (const Product product : {Product::kAmx, Product::kAvx512Bf16}) {
        if (cpu::can(product)) names.emplace_back(name_of(product));
      }
    }
    names.push_back(name);
  }
  return names;
}

void force_cpu_target(const std::string& name) {
  hwy::SetSupportedTargetsForTest(0);
  std::int64_t chosen = 0;
  std::optional<Product> product;
  if (!name.empty()) product = Product::kFloat;
  for (const Product pairs : {Product::kAmx, Product::kAvx512Bf16}) {
    if (name == name_of(pairs) && cpu::can(pairs)) product = pairs;
  }
  if (!name.empty()) {
    const std::string wanted = product == Product::kFloat ? name : "AVX512";
    std::string known;
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      if (wanted == cpu::target_name(target)) chosen = target;
    }
    if (chosen == 0) {
      for (const std::string& target : cpu_targets()) known += (known.empty() ? "" : ", ") + target;
      fail(Status::kArgument, "this machine has no target '{}'; it has {}", name, known);
    }
    hwy::SetSupportedTargetsForTest(chosen);
  }
  cpu::force_product(product);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace ag
#endif
