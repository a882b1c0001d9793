// SPDX-License-Identifier: Apache-2.0
#include <mutex>
#include <utility>

#include "batch_run.hpp"

namespace ag::cuda {
namespace {

struct IdleResults {
  std::mutex mutex;
  std::vector<std::unique_ptr<BatchResult>> results;
};

// Never destroyed, as idle lanes are not (team.cpp).
IdleResults& idle_results() {
  static IdleResults* const kept = new IdleResults();
#if defined(ATTNGRAPH_EMULATION)
  static const std::shared_ptr<IdleResults> at_exit(kept, [](IdleResults* all) { all->results.clear(); });
#endif
  return *kept;
}

}  // namespace

void release_idle_results() {
  IdleResults& idle = idle_results();
  std::vector<std::unique_ptr<BatchResult>> all;
  const std::lock_guard lock(idle.mutex);
  all.swap(idle.results);
}

BatchResult& KeptResult::get() {
  if (result_ == nullptr) {
    IdleResults& idle = idle_results();
    const std::lock_guard lock(idle.mutex);
    if (!idle.results.empty()) {
      result_ = std::move(idle.results.back());
      idle.results.pop_back();
    }
  }
  if (result_ == nullptr) result_ = std::make_unique<BatchResult>();
  return *result_;
}

KeptResult::~KeptResult() {
  if (result_ == nullptr) return;
  result_->on_device = {};
  result_->rows_on_device = {};
  IdleResults& idle = idle_results();
  const std::lock_guard lock(idle.mutex);
  idle.results.push_back(std::move(result_));
}

}  // namespace ag::cuda
