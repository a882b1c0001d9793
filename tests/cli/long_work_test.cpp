// SPDX-License-Identifier: Apache-2.0
// Ctrl-C in the middle of long work.
#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "command.hpp"

namespace attngraph::test {
namespace {

using Clock = std::chrono::steady_clock;

class LongWork : public CommandTest {
 protected:
  // Work for a minute or more.
  void SetUp() override {
    CommandTest::SetUp();
    const auto numbers = noise(30000 * 64, 1);
    write_npy("q.npy", {30000, 64}, numbers);
    write_safetensors("qk.safetensors", {{"q.0", {30000, 64}, numbers}, {"k.0", {30000, 64}, numbers}});
  }

  // Lets the command work for a while, then sends the signal; it must end by itself, soon and with one line.
  void expect_to_stop(const Arguments& arguments, int number) {
    const auto before = files();
    Process command(folder_, arguments);
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    const auto sent = Clock::now();
    command.signal(number);
    const Outcome o = command.wait();
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - sent);
    EXPECT_EQ(o.status, 1) << o.err;
    EXPECT_LT(took.count(), 100 + 4900) << "100 ms, and a margin for busy machines and sanitizers";
    EXPECT_THAT(o.err, testing::StartsWith("attngraph: error: "));
    EXPECT_EQ(lines(o.err), 1u) << o.err;
    EXPECT_EQ(files(), before) << "no file, not even a temporary one";
    RecordProperty("stopped_after_ms", static_cast<int>(took.count()));
  }
};

TEST_F(LongWork, StopsSoonAndLeavesNoFile) {
  expect_to_stop({"extract", "q.npy", "q.npy", "--backend", "reference", "-o", "e.npz"}, SIGINT);
  expect_to_stop({"extract", "q.npy", "q.npy", "--backend", "reference", "-o", "e.csv", "--quiet"}, SIGTERM);
}

TEST_F(LongWork, StopsOnEveryBackendAndInASweep) {
  expect_to_stop({"bench", "--n", "100000", "--heads", "4", "--backend", "cpu"}, SIGINT);
  expect_to_stop({"sweep", "qk.safetensors", "--backend", "reference"}, SIGINT);
}

TEST_F(LongWork, AStoppedRunLeavesTheOldFileAlone) {
  write("e.csv", "precious");
  expect_to_stop({"extract", "q.npy", "q.npy", "--backend", "reference", "-o", "e.csv"}, SIGINT);
  EXPECT_EQ(text("e.csv"), "precious");
}

}  // namespace
}  // namespace attngraph::test
