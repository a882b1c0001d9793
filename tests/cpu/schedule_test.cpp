// SPDX-License-Identifier: Apache-2.0
// Many threads on paper: the policies that the engine runs by (TaskOrder, KeyTurns) and the plan that it runs, played
// through in invented time, for machines that no test has: 64 threads, two sockets of different speed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "core/task_order.hpp"
#include "cpu/key_turns.hpp"
#include "plan/plan.hpp"

namespace ag::test {
namespace {

// Of an Intel server processor at 2.1 GHz (docs/benchmarks.md), rounded.
constexpr double kSecondsPerPair = 1 / 0.85e9, kSecondsPerTask = 5e-6, kSecondsPerScannedRow = 30e-9;
constexpr double kSecondsPerCommit = 2e-6, kSecondsPerThreadStart = 15e-6;

struct Played {
  double seconds = 0;          // from the first thread's start to the last commit
  double busy_share = 0;       // of what all threads could have done in that time, by their speeds
  double idle_share_left = 0;  // of threads' time while there were tasks to start
};

class Play {
 public:
  Play(const PlanShape& shape, const Plan& plan, std::vector<double> speeds)
      : shape_(shape),
        plan_(plan),
        tasks_per_head_((shape.queries + plan.rows_per_task - 1) / plan.rows_per_task),
        count_(shape.query_heads * tasks_per_head_),
        order_(count_, plan.threads),
        turns_(static_cast<std::size_t>(plan.key_places)) {
    for (std::size_t n = 0; n < speeds.size(); ++n)
      threads_.push_back({speeds[n], kSecondsPerThreadStart * static_cast<double>(n)});
  }

  Played run() {
    double time = 0, idle = 0, there = 0;
    for (std::size_t n = 0; n < threads_.size(); ++n) threads_[n].until = threads_[n].begins;
    while (!order_.all_committed()) {
      // What ends now, then what can begin now, until nothing more can.
      for (bool changed = true; changed;) {
        changed = false;
        for (std::size_t n = 0; n < threads_.size(); ++n) changed = step(n, time) || changed;
      }
      if (order_.all_committed()) break;
      double next = HUGE_VAL;
      for (const Thread& t : threads_) {
        if (t.until > time) next = std::min(next, t.until);
      }
      if (next == HUGE_VAL) {
        ADD_FAILURE() << "all threads wait for one another";
        break;
      }
      if (!order_.all_started()) {
        for (const Thread& t : threads_) {
          if (time < t.begins) continue;
          there += next - time;
          if (t.until <= time) idle += next - time;
        }
      }
      time = next;
    }
    double speed = 0;
    for (const Thread& t : threads_) speed += t.speed;
    return {time, work_ / (speed * time), there > 0 ? idle / there : 0};
  }

 private:
  enum class Doing { kNothing, kScan, kTask, kCommit };
  struct Thread {
    double speed = 1, begins = 0, until = 0;
    Doing doing = Doing::kNothing;
    std::int64_t task = -1;  // that it has started; waits for its keys while doing nothing
  };

  std::size_t group_of(std::int64_t task) const {
    return static_cast<std::size_t>(task / tasks_per_head_ / shape_.heads_per_key_head);
  }
  double pairs(std::int64_t task) const {
    const std::int64_t begin = task % tasks_per_head_ * plan_.rows_per_task;
    const std::int64_t end = std::min(begin + plan_.rows_per_task, shape_.queries);
    const auto rows = static_cast<double>(end - begin);
    return rows * (shape_.causal ? static_cast<double>(begin + end) / 2 : static_cast<double>(shape_.keys));
  }
  void begin(Thread& t, double time, Doing doing, double work) {
    t.doing = doing;
    t.until = time + work / t.speed;
    work_ += work;
  }

  // One thing that thread n can do now; false when there is none.
  bool step(std::size_t n, double time) {
    Thread& t = threads_[n];
    if (t.until > time) return false;
    switch (t.doing) {
      case Doing::kScan:
        turns_.prepared(group_of(t.task));
        begin(t, time, Doing::kTask, kSecondsPerTask + pairs(t.task) * kSecondsPerPair);
        return true;
      case Doing::kTask:
        turns_.release(group_of(t.task));
        order_.finish(t.task);
        t.task = -1;
        t.doing = Doing::kNothing;
        return true;
      case Doing::kCommit:
        order_.commit();
        t.doing = Doing::kNothing;
        return true;
      case Doing::kNothing: break;
    }
    if (t.task < 0) {
      if (n == 0 && order_.can_commit()) {
        begin(t, time, Doing::kCommit, kSecondsPerCommit);
        return true;
      }
      if (!order_.can_start()) return false;
      t.task = order_.start();
    }
    switch (turns_.ask(group_of(t.task), tasks_per_head_ * shape_.heads_per_key_head)) {
      case cpu::KeyTurns::Answer::kReady:
        begin(t, time, Doing::kTask, kSecondsPerTask + pairs(t.task) * kSecondsPerPair);
        return true;
      case cpu::KeyTurns::Answer::kPrepare:
        begin(t, time, Doing::kScan,
              kSecondsPerScannedRow * static_cast<double>(shape_.keys + shape_.queries * shape_.heads_per_key_head));
        return true;
      case cpu::KeyTurns::Answer::kWait: break;
    }
    return false;
  }

  const PlanShape& shape_;
  const Plan& plan_;
  std::int64_t tasks_per_head_, count_;
  TaskOrder order_;
  cpu::KeyTurns turns_;
  std::vector<Thread> threads_;
  double work_ = 0;
};

struct Scene {
  std::string name;
  std::int64_t heads, per_key_head, n;
  bool causal;
  double least_busy;  // of 64 threads; what is lost is the scan of a head's keys, by one thread, and the last tasks
};
std::ostream& operator<<(std::ostream& out, const Scene& scene) { return out << scene.name; }

const Scene kScenes[] = {
    {"one_head_of_128k", 1, 1, 131072, true, 0.83},     {"one_head_of_16k", 1, 1, 16384, true, 0.64},
    {"one_head_of_16k_full", 1, 1, 16384, false, 0.76}, {"nine_heads_of_8k", 9, 3, 8192, true, 0.63},
    {"heads_of_4k", 32, 4, 4096, true, 0.55},           {"heads_of_1k", 64, 1, 1024, true, 0.38}};

PlanShape shape_of(const Scene& scene) {
  PlanShape shape;
  shape.query_heads = scene.heads;
  shape.key_heads = scene.heads / scene.per_key_head;
  shape.heads_per_key_head = static_cast<int>(scene.per_key_head);
  shape.queries = shape.keys = scene.n;
  shape.head_dim = 64;
  shape.causal = scene.causal;
  shape.selection.threshold = 0.01;
  return shape;
}

Plan plan_of(const PlanShape& shape, int threads, int asked = 0) {
  DeviceInfo device;
  device.threads = threads;
  device.vector_registers = 32;
  return make_plan(shape, {"cpu", asked}, device);
}

class Schedule : public ::testing::TestWithParam<Scene> {};
INSTANTIATE_TEST_SUITE_P(, Schedule, ::testing::ValuesIn(kScenes), [](const auto& test) { return test.param.name; });

// Two sockets: every other half of the threads is slower, as memory of the other socket is.
std::vector<double> sockets(int threads, double second) {
  std::vector<double> speeds(static_cast<std::size_t>(threads), 1.0);
  std::fill(speeds.begin() + threads / 2, speeds.end(), second);
  return speeds;
}

TEST_P(Schedule, KeepsSixtyFourThreadsBusyOnOneSocketAndTwo) {
  const PlanShape shape = shape_of(GetParam());
  const Plan plan = plan_of(shape, 64, 64);
  for (const double second : {1.0, 0.7}) {
    const Played played = Play(shape, plan, sockets(64, second)).run();
    EXPECT_GT(played.busy_share, GetParam().least_busy) << "second socket at " << second;
  }
}

TEST_P(Schedule, OneThreadIsNeverIdle) {
  const PlanShape shape = shape_of(GetParam());
  const Played played = Play(shape, plan_of(shape, 64, 1), {1.0}).run();
  EXPECT_GT(played.busy_share, 0.999);
  EXPECT_EQ(played.idle_share_left, 0);
}

TEST(Schedules, HeadsOfFewTasksAreHeldTogetherSoThatThreadsDoNotWait) {
  const PlanShape shape = shape_of({"heads", 64, 1, 1024, true, 0});
  Plan plan = plan_of(shape, 64, 64);
  ASSERT_GT(plan.key_places, 2);
  const double together = Play(shape, plan, sockets(64, 1)).run().seconds;
  plan.key_places = 2;
  EXPECT_GT(Play(shape, plan, sockets(64, 1)).run().seconds, 1.5 * together);
}

TEST(Schedules, ThreadsThatAreNotStartedAreNotMissed) {
  for (const std::int64_t n : {512, 1024, 2048, 4096}) {
    const PlanShape shape = shape_of({"small", 1, 1, n, false, 0});
    const Plan few = plan_of(shape, 64), all = plan_of(shape, 64, 64);
    ASSERT_LT(few.threads, 64);
    EXPECT_LT(Play(shape, few, sockets(few.threads, 1)).run().seconds,
              2 * Play(shape, all, sockets(64, 1)).run().seconds)
        << n << " rows, " << few.threads << " threads";
  }
}

}  // namespace
}  // namespace ag::test
