// SPDX-License-Identifier: Apache-2.0
// What the choice between ways of multiplying is measured by: an invented clock and invented work, then the kernels of
// this machine and the model of tiles.
#include "cpu/product_rates.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <new>

#include "cpu/pairs.hpp"
#include "cpu/targets.hpp"
#include "support/run.hpp"
#include "tile_model.hpp"

namespace ag::test {
namespace {

thread_local double invented_seconds = 0;
double invented_clock() { return invented_seconds; }

// Makes 1,000 scores in so many microseconds of the invented clock.
cpu::Work invented(double microseconds) {
  return [=] {
    invented_seconds += 1e-6 * microseconds;
    return 1000.0;
  };
}

double rate(const std::vector<double>& rates, Product product) { return rates.at(static_cast<std::size_t>(product)); }

TEST(ProductRates, AreThoseOfAllThreadsTogether) {
  const cpu::Contender contenders[] = {{Product::kFloat, [] { return invented(2); }},
                                       {Product::kAmx, [] { return invented(1); }}};
  for (const int threads : {1, 5}) {
    const std::vector<double> rates = cpu::measure_rates(contenders, threads, invented_clock);
    EXPECT_NEAR(rate(rates, Product::kFloat), 0.5e9 * threads, 1e6 * threads);
    EXPECT_NEAR(rate(rates, Product::kAmx), 1e9 * threads, 1e6 * threads);
    EXPECT_EQ(rate(rates, Product::kAvx512Bf16), 0) << "took no part";
  }
}

TEST(ProductRates, ALookThatWasDisturbedDoesNotCount) {
  std::atomic<int> calls{0};
  // The first look, which ends after 2 ms, is ten times as slow as the others.
  const cpu::Contender contenders[] = {{Product::kFloat, [&] {
                                          return [&] {
                                            invented_seconds += ++calls <= 200 ? 1e-5 : 1e-6;
                                            return 1000.0;
                                          };
                                        }}};
  EXPECT_NEAR(rate(cpu::measure_rates(contenders, 1, invented_clock), Product::kFloat), 1e9, 1e7);
}

TEST(ProductRates, WithoutMemoryForTheDataThereAreNone) {
  std::atomic<int> made{0};
  const cpu::Contender contenders[] = {{Product::kFloat, [&]() -> cpu::Work {
                                          if (++made == 2) throw std::bad_alloc();
                                          return invented(1);
                                        }}};
  EXPECT_TRUE(cpu::measure_rates(contenders, 3, invented_clock).empty());
}

// The widest vectors of this machine against no vectors: whoever measures must see it.
TEST(ProductRates, TellTheKernelsOfThisMachineApart) {
  const std::vector<std::string> targets = cpu_targets();
  std::vector<std::string> floats;
  for (const std::string& target : targets) {
    if (target != "AMX" && target != "AVX512_BF16") floats.push_back(target);
  }
  if (floats.size() < 2) GTEST_SKIP() << "this machine has one instruction set";
  const auto kernels_of = [](const std::string& target) {
    const ForcedTarget forced({"cpu", target});
    return cpu::kernels<float>();
  };
  const cpu::Kernels<float> best = kernels_of(floats.front()), least = kernels_of(floats.back());
  const cpu::Contender contenders[] = {{Product::kFloat, [&] { return cpu::strip_work(least, 64); }},
                                       {Product::kAmx, [&] { return cpu::strip_work(best, 64); }}};
  const std::vector<double> rates = cpu::measure_rates(contenders, 2);
  EXPECT_GT(rate(rates, Product::kFloat), 0);
  EXPECT_GT(rate(rates, Product::kAmx), 1.5 * rate(rates, Product::kFloat));
}

TEST(ProductRates, TheirWorkIsThatOfTheTilesToo) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    TileModel::faults = 0;
    cpu::Kernels<float> table = cpu::kernels<float>();
    cpu::use_tile_product<TileModel>(table, dtype);
    EXPECT_EQ(cpu::strip_work(table, 70)(), 8.0 * 32 * cpu::kStripKeys<float>);
    EXPECT_EQ(TileModel::faults, 0);
    EXPECT_FALSE(TileModel::configured) << "released";
  }
}

TEST(ProductRates, AreAskedForOnlyWhereThereIsAChoice) {
  cpu::force_product(Product::kAmx);
  EXPECT_TRUE(cpu::product_rates(DType::kBF16, 64, 2).empty()) << "somebody named it";
  cpu::force_product(std::nullopt);
  EXPECT_TRUE(cpu::product_rates(DType::kF64, 64, 2).empty());
  EXPECT_EQ(cpu::product_rates(DType::kBF16, 64, 2).empty(), !cpu::can(Product::kAmx));
  EXPECT_EQ(find_backend("cpu").choices().empty(), cpu::usable_product() != Product::kAmx);
}

TEST(ProductRates, TheVariableIsReadAndItsMistakesAreNamed) {
  const auto with = [](const char* word, auto&& look) {
    EXPECT_EQ(setenv("ATTNGRAPH_PAIR_PRODUCTS", word, 1), 0);
    const auto answer = look();
    EXPECT_EQ(unsetenv("ATTNGRAPH_PAIR_PRODUCTS"), 0);
    return answer;
  };
  EXPECT_TRUE(cpu::may_measure());
  EXPECT_FALSE(with("table", cpu::may_measure));
  EXPECT_FALSE(cpu::product_is_forced());
  EXPECT_TRUE(with("amx", cpu::product_is_forced));
  for (const char* word : {"", "off", "avx512_bf16", "amx", "table"})
    EXPECT_EQ(with(word, cpu::environment_trouble), "");
  const std::string facts = with("of", [] { return find_backend("cpu").device().facts; });
  EXPECT_NE(facts.find("ATTNGRAPH_PAIR_PRODUCTS is 'of', which is none of off, avx512_bf16, amx, table"),
            std::string::npos)
      << facts;
}

}  // namespace
}  // namespace ag::test
