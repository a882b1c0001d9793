// SPDX-License-Identifier: Apache-2.0
#include "product.hpp"

#include <fmt/format.h>

namespace ag {
namespace {

constexpr Product kAll[] = {Product::kFloat, Product::kAvx512Bf16, Product::kAmx};

constexpr double kClearlyFaster = 1.1;

// 10^9 scores a second on the processor that the table is of (docs/benchmarks.md): AVX-512 in float, and AMX. What one
// thread of a process alone was measured to do, and what sixteen were. f16 was not measured with sixteen: a score by
// AMX takes a time that grows with its products, 1 of bf16, 4 of f16, 6 of f32, and so between those two; this line
// gives the rates of one thread, too (0.97 measured, 1.07 by it; 0.702 and 0.708).
struct Figures {
  DType dtype;
  bool wide;  // D is above 96: measured at 128, otherwise at 64
  double one_float, one_amx, all_float, all_amx;
};
constexpr Figures kTable[] = {
    {DType::kF32, false, 0.852, 0.879, 7.25, 4.90},  {DType::kF32, true, 0.505, 0.577, 4.51, 3.46},
    {DType::kF16, false, 0.872, 0.971, 7.25, 6.3},   {DType::kF16, true, 0.518, 0.702, 4.51, 4.7},
    {DType::kBF16, false, 0.854, 1.575, 7.93, 11.0}, {DType::kBF16, true, 0.522, 1.071, 4.88, 9.72}};

const char* words_of(Product product) { return product == Product::kFloat ? "AVX512" : name_of(product); }

Product by_table(DType dtype, bool wide, int threads) {
  for (const Figures& f : kTable) {
    if (f.dtype != dtype || f.wide != wide) continue;
    return (threads > 1 ? f.all_amx > f.all_float : f.one_amx > f.one_float) ? Product::kAmx : Product::kFloat;
  }
  return Product::kFloat;
}

}  // namespace

ProductChoice choose_product(DType dtype, std::int64_t head_dim, const DeviceInfo& device) {
  if (dtype == DType::kF64 || device.product == Product::kFloat) return {};
  if (device.product == Product::kAvx512Bf16)
    return {dtype == DType::kBF16 ? Product::kAvx512Bf16 : Product::kFloat, ""};
  if (device.product_is_forced) return {device.product, ""};

  const Product expected = by_table(dtype, is_wide(head_dim), device.threads);
  const auto rate = [&](Product product) {
    const auto n = static_cast<std::size_t>(product);
    return n < device.product_rates.size() ? device.product_rates[n] : 0.0;
  };
  if (!(rate(Product::kFloat) > 0) || !(rate(Product::kAmx) > 0)) {
    return {expected, fmt::format("{}, by a table: not measured here", words_of(expected))};
  }
  Product best = expected;
  for (const Product product : kAll) {
    if (rate(product) > kClearlyFaster * rate(expected) && rate(product) > rate(best)) best = product;
  }
  std::string figures;
  for (const Product product : kAll) {
    if (rate(product) > 0)
      figures += fmt::format("{}{} {:.2f}", figures.empty() ? "" : ", ", words_of(product), 1e-9 * rate(product));
  }
  return {best, fmt::format("{}, measured with {} thread{}: {} x 10^9 scores a second", words_of(best), device.threads,
                            device.threads == 1 ? "" : "s", figures)};
}

}  // namespace ag
