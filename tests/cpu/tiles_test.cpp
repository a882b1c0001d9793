// SPDX-License-Identifier: Apache-2.0
// The product by tiles on any machine: the kernel's text compiled with a model of the instructions, under every case
// that backends are held to; and what is asked before a processor's own tiles are used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <vector>

#include "cpu/amx.hpp"
#include "cpu/pairs.hpp"
#include "support/cases.hpp"
#include "support/compare.hpp"
#include "support/run.hpp"
#include "tile_model.hpp"

namespace ag::test {
namespace {

std::vector<Case> cases_of_tiles() {
  std::vector<Case> cases;
  for (Case& c : extract_cases()) {
    if (c.dtype != DType::kF64) cases.push_back(std::move(c));
  }
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Case c = random_case(seed);
    if (c.dtype != DType::kF64) cases.push_back(std::move(c));
  }
  return cases;
}

class TileCases : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(, TileCases, ::testing::ValuesIn(cases_of_tiles()),
                         [](const auto& test) { return test_name(test.param.name); });

TEST_P(TileCases, KeepsExactlyTheEdgesOfTheReference) {
  const WithTileModel model;
  const Inputs inputs(GetParam());
  const EdgeList actual = run_extract(find_backend("cpu"), inputs.problem());
  expect_same_graph(actual, run_extract(find_backend("reference"), inputs.problem()), inputs.problem());
  EXPECT_EQ(actual.report.target, "AMX");
  EXPECT_EQ(TileModel::faults, 0);
  EXPECT_FALSE(TileModel::configured) << "released";
}

// Does not fault, and does not multiply.
struct IdleTiles : TileModel {
  template <int kSum, int kLeft, int kRight>
  static void multiply() {}
};

TEST(Tiles, TheProbeAcceptsTheModelAndNoOther) {
  EXPECT_TRUE(cpu::tiles_multiply_right<TileModel>());
  EXPECT_FALSE(cpu::tiles_multiply_right<IdleTiles>());
}

bool refused_to_ask = false;
long give() { return 0; }
long refuse() {
  refused_to_ask = true;
  return -1;
}
bool right() { return true; }
bool wrong() { return false; }
bool dies() {
#if defined(__x86_64__)
  asm volatile("ud2");
#endif
  return true;
}
bool segfaults() {
  volatile int* volatile nowhere = nullptr;
  *nowhere = 1;
  return true;
}
constexpr std::uint64_t kAllStates = ~std::uint64_t{0};

#if defined(__x86_64__) && defined(__linux__)
TEST(Tiles, EachRefusalIsAReasonAndNoCrash) {
  EXPECT_STREQ(cpu::why_no_tiles({true, kAllStates, give, right}), "");
  EXPECT_THAT(cpu::why_no_tiles({false, kAllStates, give, right}), ::testing::HasSubstr("processor"));
  constexpr std::uint64_t kWithoutTileData = kAllStates & ~(std::uint64_t{1} << 18);
  refused_to_ask = false;
  EXPECT_THAT(cpu::why_no_tiles({true, kWithoutTileData, refuse, right}), ::testing::HasSubstr("operating system"));
  EXPECT_FALSE(refused_to_ask) << "asked in vain";
  EXPECT_THAT(cpu::why_no_tiles({true, kAllStates, refuse, right}), ::testing::HasSubstr("kernel"));
  for (bool (*product)() : {wrong, dies, segfaults})
    EXPECT_THAT(cpu::why_no_tiles({true, kAllStates, give, product}), ::testing::HasSubstr("product"));
}

volatile std::sig_atomic_t signals_seen = 0;
void count_signal(int) { signals_seen = signals_seen + 1; }

TEST(Tiles, TheProgramsHandlersSeeNothingOfTheProbe) {
  for (const int signal : {SIGILL, SIGCHLD, SIGSEGV}) std::signal(signal, count_signal);
  EXPECT_FALSE(cpu::holds_apart(dies));
  EXPECT_FALSE(cpu::holds_apart(segfaults));
  EXPECT_TRUE(cpu::holds_apart(right));
  EXPECT_EQ(signals_seen, 0);
  for (const int signal : {SIGILL, SIGCHLD, SIGSEGV}) std::signal(signal, SIG_DFL);
}
#endif

TEST(Tiles, WhatThisMachineSaysIsAReasonOrATarget) {
  const std::vector<std::string> targets = cpu_targets();
  const bool listed = std::find(targets.begin(), targets.end(), "AMX") != targets.end();
  EXPECT_EQ(listed, std::strlen(cpu::why_no_tiles()) == 0) << cpu::why_no_tiles();
}

}  // namespace
}  // namespace ag::test
