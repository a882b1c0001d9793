// SPDX-License-Identifier: Apache-2.0
// Many threads work, one commits in order: how rows computed out of order reach a sink in order.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "control.hpp"
#include "task_order.hpp"

namespace ag {

// Called inside tasks, often: lets the caller's callbacks run (in the calling thread) and throws when the work is to
// stop.
using Poll = std::function<void()>;

// Thrown in a task that stops because another one failed; never leaves run().
struct Stopped {};

// work(task, worker, poll, result) for every task in [0, count), on `threads` threads (the calling one is among them);
// commit(task, result) in order of tasks, on the calling thread only. At most a few tasks per thread are ahead of the
// commit, so a slow sink bounds memory. Result is reused: work() gets it as the last commit left it. The error of the
// smallest failing task is thrown, after all threads ended.
template <class Result>
class OrderedTasks {
 public:
  using Work = std::function<void(std::int64_t task, int worker, const Poll& poll, Result& result)>;
  using Commit = std::function<void(std::int64_t task, Result& result)>;
  using Fraction = std::function<double(std::int64_t tasks_done)>;

  OrderedTasks(std::int64_t count, int threads, Control& control)
      : threads_(static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(count, 1)))),
        control_(control),
        order_(count, threads_),
        results_(static_cast<std::size_t>(order_.slots())) {}

  void run(const Work& work, const Commit& commit, const Fraction& fraction) {
    std::vector<std::thread> helpers;
    helpers.reserve(static_cast<std::size_t>(threads_));
    try {
      for (int worker = 1; worker < threads_; ++worker) {
        try {
          helpers.emplace_back([this, &work, worker] { help(work, worker); });
        } catch (const std::system_error&) {
          break;  // the system has no more threads for us: fewer do the same work
        }
      }
      lead(work, commit, fraction);
    } catch (const Stopped&) {  // a helper failed and has said why
    } catch (...) {
      record_failure(order_.committed());
    }
    {
      const std::lock_guard lock(mutex_);
      finished_ = true;
    }
    may_start_.notify_all();
    for (std::thread& helper : helpers) helper.join();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

  bool has_failed() const { return failed_task_.load(std::memory_order_relaxed) != kNone; }
  // Tasks after a failed one need not go on; those before it must, or the error would depend on who was faster.
  bool is_void(std::int64_t task) const { return task > failed_task_.load(std::memory_order_relaxed); }

  void help(const Work& work, int worker) {
    std::int64_t own = 0;
    const Poll poll = [this, &own] {
      if (is_void(own) || control_.stopped()) throw Stopped();
    };
    std::unique_lock lock(mutex_);
    while (true) {
      may_start_.wait(lock, [this] { return finished_ || order_.all_started() || order_.can_start(); });
      if (finished_ || !order_.can_start()) return;
      const std::int64_t task = own = order_.start();
      lock.unlock();
      perform(work, task, worker, poll);
      lock.lock();
      // The leading thread waits for one task only, and nobody else for any.
      if (order_.finish(task) || has_failed()) may_commit_.notify_one();
    }
  }

  void lead(const Work& work, const Commit& commit, const Fraction& fraction) {
    std::int64_t own = 0;
    const Poll poll = [this, &fraction, &own] {
      if (is_void(own)) throw Stopped();
      control_.poll(fraction(order_.committed()));
    };
    std::unique_lock lock(mutex_);
    while (!order_.all_committed()) {
      if (has_failed()) return;
      own = order_.committed();
      if (order_.can_commit()) {
        lock.unlock();
        commit(own, results_[order_.slot_of(own)]);
        poll();
        lock.lock();
        order_.commit();
        may_start_.notify_one();  // there is room for one more
      } else if (order_.can_start()) {
        const std::int64_t task = own = order_.start();
        lock.unlock();
        perform(work, task, 0, poll);
        lock.lock();
        order_.finish(task);
      } else {
        may_commit_.wait_for(lock, std::chrono::milliseconds(10));
        lock.unlock();
        poll();
        lock.lock();
      }
    }
    lock.unlock();
    control_.poll(1.0);
  }

  void perform(const Work& work, std::int64_t task, int worker, const Poll& poll) {
    try {
      work(task, worker, poll, results_[order_.slot_of(task)]);
    } catch (const Stopped&) {
    } catch (...) {
      record_failure(task);
    }
  }

  void record_failure(std::int64_t task) {
    const std::lock_guard lock(failure_mutex_);
    if (has_failed() && task >= failed_task_.load(std::memory_order_relaxed)) return;
    failure_ = std::current_exception();
    failed_task_.store(task, std::memory_order_relaxed);
  }

  const int threads_;
  Control& control_;
  std::mutex mutex_;  // of order_ and finished_; what is committed changes in the calling thread only, which may look
  TaskOrder order_;
  std::vector<Result> results_;
  std::condition_variable may_start_;   // helpers
  std::condition_variable may_commit_;  // the leading thread
  bool finished_ = false;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  std::atomic<std::int64_t> failed_task_{kNone};
};

}  // namespace ag
