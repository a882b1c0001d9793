// SPDX-License-Identifier: Apache-2.0
#include "product_rates.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "../plan/product.hpp"
#include "aligned_buffer.hpp"
#include "pairs.hpp"

namespace ag::cpu {
namespace {

constexpr int kLooks = 3;
constexpr double kLookSeconds = 0.002;
constexpr int kMostThreads = 256;

class StripWork {
 public:
  StripWork(const Kernels<float>& kernel, std::int64_t head_dim)
      : kernel_(kernel), head_dim_(head_dim), depth_(kernel.depth(head_dim)) {
    const std::int64_t rows = kernel.rows_per_block;
    queries_.reserve(kBlocks * rows * depth_);
    keys_.reserve(kStripKeys<float> * depth_);
    scores_.reserve(rows * kStripKeys<float>);
    std::fill_n(queries_.data(), kBlocks * rows * depth_, 0.0f);
    // Any ordinary values: scores of a few units.
    std::vector<float> values(static_cast<std::size_t>(std::max(kernel.panel_keys, std::int64_t{1}) * head_dim));
    for (std::size_t n = 0; n < values.size(); ++n) values[n] = static_cast<float>((7 * n + n / 5) % 17) / 16 - 0.5f;
    for (std::int64_t i = 0; i < kBlocks * rows; ++i)
      kernel.pack_query(values.data() + i % kernel.panel_keys * head_dim, head_dim, i % rows,
                        queries_.data() + i / rows * rows * depth_);
    for (std::int64_t j = 0; j < kStripKeys<float>; j += kernel.panel_keys)
      kernel.pack_panel(values.data(), head_dim, keys_.data() + j * depth_);
    states_.resize(static_cast<std::size_t>(rows));
    for (std::int64_t r = 0; r < rows; ++r)
      strips_.push_back(
          {scores_.data() + r * kStripKeys<float>, kStripKeys<float>, 0, r, &states_[static_cast<std::size_t>(r)]});
  }

  double run() {
    if (kernel_.score_under_sweep != nullptr && kernel_.sweep_rows != nullptr) return run_by_pieces();
    const std::int64_t rows = kernel_.rows_per_block;
    const SweepRequest request{.sum = true, .own_cut = false};
    for (std::int64_t block = 0; block < kBlocks; ++block) {
      for (RowState<float>& state : states_) {
        state = {};
        state.cut = std::numeric_limits<float>::max();  // no candidates
      }
      kernel_.score_strip(queries_.data() + block * rows * depth_, keys_.data(), head_dim_,
                          kStripKeys<float> / kernel_.panel_keys, 0.25f, scores_.data());
      kernel_.sweep(strips_.data(), rows, request);
    }
    return static_cast<double>(kBlocks * rows * kStripKeys<float>);
  }

 private:
  static constexpr std::int64_t kBlocks = 8;

  double run_by_pieces() {
    const std::int64_t rows = kernel_.rows_per_block;
    running_.rows = rows;
    running_.factor = 0.25f;
    kernel_.open_product();
    for (std::int64_t block = 0; block < kBlocks; ++block) {
      for (std::int64_t r = 0; r < rows; ++r) {
        RowState<float>& state = states_[static_cast<std::size_t>(r)];
        state = {};
        state.cut = std::numeric_limits<float>::max();
        state.maximum = state.reference = 16;  // no score is larger
        running_.states[r] = &state;
      }
      kernel_.open_sweep(running_);
      kernel_.score_under_sweep(queries_.data() + block * rows * depth_, keys_.data(), head_dim_,
                                kStripKeys<float> / kPieceKeys, 0, running_, kernel_.sweep_rows);
      kernel_.close_sweep(running_, {});
    }
    kernel_.close_product();
    return static_cast<double>(kBlocks * rows * kStripKeys<float>);
  }

  const Kernels<float> kernel_;
  std::int64_t head_dim_, depth_;
  AlignedBuffer<float> queries_, keys_, scores_;
  RunningSweep<float> running_{};
  std::vector<RowState<float>> states_;
  std::vector<StripRow<float>> strips_;
};

// All threads meet before each look, so that they look together.
class Meeting {
 public:
  void expect(int count) {
    const std::lock_guard lock(mutex_);
    expected_ = count;
    changed_.notify_all();
  }
  void meet() {
    std::unique_lock lock(mutex_);
    const std::int64_t round = round_;
    ++here_;
    changed_.wait(lock, [&] {
      if (round_ == round && here_ == expected_) {
        here_ = 0;
        ++round_;
        changed_.notify_all();
      }
      return round_ != round;
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int expected_ = -1, here_ = 0;
  std::int64_t round_ = 0;
};

class Looks {
 public:
  Looks(std::span<const Contender> contenders, Seconds now)
      : contenders_(contenders), now_(now), sums_(static_cast<std::size_t>(kLooks) * contenders.size(), 0.0) {}

  // Who has no memory for its data takes no part, and nobody's figures count: the others had more room.
  void take_part() noexcept {
    std::vector<Work> works;
    try {
      for (const Contender& contender : contenders_) works.push_back(contender.prepare());
    } catch (const std::exception&) {
      works.clear();
      all_took_part_ = false;
    }
    for (std::size_t look = 0; look < sums_.size(); ++look) {
      meeting_.meet();
      if (works.empty()) continue;
      const double begin = now_(), end = begin + kLookSeconds;
      double scores = 0, at = begin;
      for (; at < end; at = now_()) scores += works[look % works.size()]();
      const std::lock_guard lock(mutex_);
      sums_[look] += scores / (at - begin);
    }
  }

  std::vector<double> run(int threads) {
    std::vector<double> rates(static_cast<std::size_t>(Product::kAmx) + 1, 0.0);
    std::vector<std::thread> helpers;
    helpers.reserve(static_cast<std::size_t>(threads));
    for (int n = 1; n < threads; ++n) {
      try {
        helpers.emplace_back([this] { take_part(); });
      } catch (const std::exception&) {
        break;  // the system has no more threads for us
      }
    }
    meeting_.expect(static_cast<int>(helpers.size()) + 1);
    take_part();
    for (std::thread& helper : helpers) helper.join();
    if (!all_took_part_) return {};
    for (std::size_t look = 0; look < sums_.size(); ++look) {
      double& rate = rates[static_cast<std::size_t>(contenders_[look % contenders_.size()].product)];
      rate = std::max(rate, sums_[look]);
    }
    return rates;
  }

 private:
  std::span<const Contender> contenders_;
  Seconds now_;
  Meeting meeting_;
  std::atomic<bool> all_took_part_{true};
  std::mutex mutex_;
  std::vector<double> sums_;  // of the threads' rates, look by look
};

// Held while this process measures; a fork waits for it, or the child would for ever.
std::mutex measuring;

void guard_forks() {
  static const int registered =
      pthread_atfork([] { measuring.lock(); }, [] { measuring.unlock(); }, [] { measuring.unlock(); });
  static_cast<void>(registered);
}

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Work strip_work(const Kernels<float>& kernel, std::int64_t head_dim) {
  return [work = std::make_shared<StripWork>(kernel, head_dim)] { return work->run(); };
}

std::vector<double> measure_rates(std::span<const Contender> contenders, int threads, Seconds now) {
  return Looks(contenders, now).run(std::clamp(threads, 1, kMostThreads));
}

std::vector<double> product_rates(DType dtype, std::int64_t head_dim, int threads) {
  if (dtype == DType::kF64 || usable_product() != Product::kAmx || product_is_forced() || !may_measure()) return {};
  static std::map<std::pair<DType, bool>, std::vector<double>> known;
  guard_forks();
  const std::lock_guard lock(measuring);
  std::vector<double>& rates = known[{dtype, is_wide(head_dim)}];
  if (rates.empty()) {
    std::vector<Contender> contenders;
    for (const Product product : {Product::kFloat, Product::kAvx512Bf16, Product::kAmx}) {
      if (product == Product::kAvx512Bf16 && (dtype != DType::kBF16 || !can(product))) continue;
      contenders.push_back({product, [=, wide = is_wide(head_dim)] {
                              return strip_work(product_kernels<float>(product, dtype),
                                                kMeasuredHeadDims[wide ? 1 : 0]);
                            }});
    }
    rates = measure_rates(contenders, threads);
  }
  return rates;
}

}  // namespace ag::cpu
