// SPDX-License-Identifier: Apache-2.0
#include "pairs.hpp"

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "amx.hpp"
#include "avx512_bf16.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ag::cpu {
namespace {

constexpr int kNotForced = -1;
std::atomic<int> forced{kNotForced};
std::atomic<void (*)(Kernels<float>&, DType)> tiles{use_tiles};

bool has_avx512_bf16() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 5;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kBf16) != 0;
#else
  return false;
#endif
}

// Asked anew every time: a program may set it before its first call, not before it loads the library.
std::string_view word_of_environment() {
  const char* value = std::getenv("ATTNGRAPH_PAIR_PRODUCTS");
  return value == nullptr ? "" : value;
}

Product allowed_by_environment() {
  const std::string_view word = word_of_environment();
  return word == "off" ? Product::kFloat : word == "avx512_bf16" ? Product::kAvx512Bf16 : Product::kAmx;
}

}  // namespace

const char* why_no_tiles() {
  static const char* const kReason = why_no_tiles(this_tile_system());
  return kReason;
}

bool can(Product product) {
  static const bool kHasPairs = has_avx512_bf16();
  switch (product) {
    case Product::kFloat: return true;
    case Product::kAvx512Bf16: return kHasPairs;
    case Product::kAmx: return *why_no_tiles() == '\0';
  }
  return false;
}

void force_product(std::optional<Product> product) { forced = product ? static_cast<int>(*product) : kNotForced; }

bool product_is_forced() { return forced != kNotForced || word_of_environment() == "amx"; }

bool may_measure() { return word_of_environment() != "table"; }

std::string environment_trouble() {
  const std::string_view word = word_of_environment();
  for (const std::string_view known : {"", "off", "avx512_bf16", "amx", "table"}) {
    if (word == known) return {};
  }
  return fmt::format("ATTNGRAPH_PAIR_PRODUCTS is '{}', which is none of off, avx512_bf16, amx, table: ignored", word);
}

void replace_tiles(void (*use)(Kernels<float>& table, DType dtype)) { tiles = use == nullptr ? use_tiles : use; }

Product usable_product() {
  if (forced != kNotForced) return static_cast<Product>(forced.load());
  // The pair kernels are AVX-512 beside a table of AVX-512: the operating system keeps its state, then.
  if (std::strcmp(kernels<float>().target, "AVX512") != 0) return Product::kFloat;
  const Product most = allowed_by_environment();
  if (most == Product::kAmx && can(Product::kAmx)) return Product::kAmx;
  if (most != Product::kFloat && can(Product::kAvx512Bf16)) return Product::kAvx512Bf16;
  return Product::kFloat;
}

template <>
Kernels<float> product_kernels<float>(Product product, DType dtype, bool kept) {
  Kernels<float> table = kernels<float>();
  if (product == Product::kFloat && kept) use_halves(table, dtype);
  if (product == Product::kAvx512Bf16) use_avx512_bf16(table);
  if (product == Product::kAmx) tiles.load()(table, dtype);
  return table;
}

template <>
Kernels<double> product_kernels<double>(Product, DType, bool) {
  return kernels<double>();
}

}  // namespace ag::cpu
