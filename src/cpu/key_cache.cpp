// SPDX-License-Identifier: Apache-2.0
#include "key_cache.hpp"

#include <algorithm>
#include <chrono>

#include "pairs.hpp"

namespace ag::cpu {
template <class T>
void pack_strip(const Job& job, const Group& group, const HeadFacts& facts, std::int64_t strip, T* out,
                std::vector<T>& rows) {
  const TensorView& k = job.problem.k;
  const Kernels<T> kernel = product_kernels<T>(facts.product, k.dtype);
  const std::int64_t d = k.shape[3];
  const std::int64_t panel = kernel.panel_keys;
  rows.resize(static_cast<std::size_t>(panel * d));
  const std::int64_t begin = strip * kStripKeys<T>;
  for (std::int64_t first = begin; first < begin + kStripKeys<T>; first += panel, out += panel * kernel.depth(d)) {
    if (first >= facts.key_count) break;  // no row of scores reaches beyond the panel of the last key
    for (std::int64_t n = 0; n < panel; ++n) {
      T* row = rows.data() + n * d;
      const std::int64_t j = first + n;
      if (j >= facts.key_count || std::binary_search(facts.bad_keys.begin(), facts.bad_keys.end(), j)) {
        std::fill_n(row, d, T{0});
      } else {
        kernel.unpack_row(k.at(group.batch, group.key_head, j), k.dtype, k.strides[3], d, row);
      }
    }
    kernel.pack_panel(rows.data(), d, out);
  }
}

template <class T>
void PackedKeys<T>::reset(std::int64_t strips, std::int64_t strip_size) {
  buffer_.reserve(strips * strip_size);
  strip_size_ = strip_size;
  if (strips > strips_) states_ = std::make_unique<std::atomic<int>[]>(static_cast<std::size_t>(strips));
  strips_ = std::max(strips, strips_);
  for (std::int64_t s = 0; s < strips_; ++s) states_[static_cast<std::size_t>(s)] = kEmpty;
}

template <class T>
const T* PackedKeys<T>::strip(std::int64_t s, const Job& job, const Group& group, const HeadFacts& facts,
                              std::vector<T>& rows) {
  std::atomic<int>& state = states_[static_cast<std::size_t>(s)];
  T* out = buffer_.data() + s * strip_size_;
  int seen = state.load(std::memory_order_acquire);
  while (seen != kReady) {
    if (seen == kPacking) {
      state.wait(kPacking, std::memory_order_acquire);
      seen = state.load(std::memory_order_acquire);
    } else if (state.compare_exchange_strong(seen, kPacking, std::memory_order_acq_rel)) {
      try {
        pack_strip(job, group, facts, s, out, rows);
      } catch (...) {
        state.store(kEmpty, std::memory_order_release);  // no memory, say: the threads that wait must not wait for ever
        state.notify_all();
        throw;
      }
      state.store(kReady, std::memory_order_release);
      state.notify_all();
      seen = kReady;
    }
  }
  return out;
}

template void pack_strip(const Job&, const Group&, const HeadFacts&, std::int64_t, float*, std::vector<float>&);
template void pack_strip(const Job&, const Group&, const HeadFacts&, std::int64_t, double*, std::vector<double>&);
template class PackedKeys<float>;
template class PackedKeys<double>;

KeyCache::KeyCache(const Job& job, const std::vector<Group>& groups, std::int64_t tasks_per_head)
    : job_(job),
      groups_(groups),
      tasks_per_head_(tasks_per_head),
      places_(job.plan.pack == PackKeys::kWholeHead ? 2 : 1) {
  for (std::size_t n = 0; n < places_.size(); ++n) places_[n].turn = n;
}

KeySlot& KeyCache::acquire(std::size_t group, const Poll& poll) {
  Place& place = places_[group % places_.size()];
  std::unique_lock lock(mutex_);
  while (!(place.group == group && place.ready)) {
    if (place.turn == group && place.remaining == 0) {
      place.group = group;
      place.turn += places_.size();
      place.remaining = tasks_per_head_ * static_cast<std::int64_t>(groups_[group].heads.size());
      place.ready = false;
      lock.unlock();
      KeySlot& slot = place.slot;
      slot.group = &groups_[group];
      slot.facts =
          scan_group(job_, groups_[group], poll);  // a failure leaves the place unready: the others are stopped by poll
      if (job_.plan.pack != PackKeys::kPerTask) {
        const std::int64_t strip_keys = slot.facts.in_double ? kStripKeys<double> : kStripKeys<float>;
        const std::int64_t strips = (slot.facts.key_count + strip_keys - 1) / strip_keys;
        const std::int64_t d = job_.problem.head_dim();
        if (slot.facts.in_double) {
          slot.f64.reset(strips, strip_keys * d);
        } else {
          slot.f32.reset(strips,
                         strip_keys * product_kernels<float>(slot.facts.product, job_.problem.k.dtype).depth(d));
        }
      }
      lock.lock();
      place.ready = true;
      changed_.notify_all();
    } else {
      changed_.wait_for(lock, std::chrono::milliseconds(10));
      lock.unlock();
      poll();
      lock.lock();
    }
  }
  return place.slot;
}

void KeyCache::release(std::size_t group) {
  const std::lock_guard lock(mutex_);
  --places_[group % places_.size()].remaining;
  changed_.notify_all();
}

}  // namespace ag::cpu
