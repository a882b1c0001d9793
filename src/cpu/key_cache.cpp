// SPDX-License-Identifier: Apache-2.0
#include "key_cache.hpp"

#include <algorithm>
#include <chrono>

#include "kept_keys.hpp"
#include "pairs.hpp"

namespace ag::cpu {
template <class T>
std::int64_t pack_strip(const Job& job, const Group& group, const KeyFacts& facts, Product product, std::int64_t strip,
                        std::int64_t from, std::int64_t count, T* out, std::vector<T>& rows) {
  const TensorView& k = job.problem.k;
  const Kernels<T> kernel = product_kernels<T>(product, k.dtype, job.problem.kept != nullptr);
  const std::int64_t d = k.shape[3];
  const std::int64_t panel = kernel.panel_keys;
  rows.resize(static_cast<std::size_t>(panel * d));
  const std::int64_t begin = strip * kStripKeys<T>, end = begin + count;
  std::int64_t packed = 0;
  // No row of scores reaches beyond the panel of the last key.
  for (std::int64_t first = begin + from / panel * panel; first < end; first += panel) {
    for (std::int64_t n = 0; n < panel; ++n) {
      T* row = rows.data() + n * d;
      const std::int64_t j = first + n;
      if (j >= end || std::binary_search(facts.bad_keys.begin(), facts.bad_keys.end(), j)) {
        std::fill_n(row, d, T{0});
      } else {
        kernel.unpack_row(k.at(group.batch, group.key_head, j), k.dtype, k.strides[3], d, row);
      }
    }
    kernel.pack_panel(rows.data(), d, out + (first - begin) * kernel.key_depth(d));
    packed += panel;
  }
  return packed;
}

template <class T>
void PackedKeys<T>::reset(std::int64_t strips, std::int64_t strip_size) {
  strip_size_ = strip_size;
  strips_ = strips;
  has_room_.store(false, std::memory_order_relaxed);
  if (strips > most_strips_) {
    states_ = std::make_unique<std::atomic<int>[]>(static_cast<std::size_t>(strips));
    most_strips_ = strips;
  }
  for (std::int64_t s = 0; s < strips; ++s) states_[static_cast<std::size_t>(s)] = 0;
}

template <class T>
void PackedKeys<T>::grow(std::int64_t strips, std::int64_t strip_size, Form form) {
  if (form != form_ || strip_size != strip_size_) {
    for (std::int64_t s = 0; s < strips_; ++s) states_[static_cast<std::size_t>(s)] = 0;
    own_.clear();
  }
  if (strips > most_strips_) {
    const std::int64_t most = strips + strips / 2;
    auto states = std::make_unique<std::atomic<int>[]>(static_cast<std::size_t>(most));
    for (std::int64_t s = 0; s < strips_; ++s)
      states[static_cast<std::size_t>(s)] = states_[static_cast<std::size_t>(s)].load(std::memory_order_relaxed);
    states_ = std::move(states);
    most_strips_ = most;
  }
  own_.grow(strips, strip_size);
  form_ = form;
  strip_size_ = strip_size;
  strips_ = strips;
}

template <class T>
void PackedKeys<T>::truncate(std::int64_t count) {
  for (std::int64_t s = count / kStripKeys<T>; s < strips_; ++s) {
    std::atomic<int>& state = states_[static_cast<std::size_t>(s)];
    const std::int64_t left = std::max<std::int64_t>(0, count - s * kStripKeys<T>);
    state = static_cast<int>(std::min<std::int64_t>(left, state));
  }
  own_.truncate((count + kStripKeys<T> - 1) / kStripKeys<T>);
}

template <class T>
void PackedKeys<T>::drop_before(std::int64_t key) {
  const std::int64_t end = std::min(key / kStripKeys<T>, strips_);
  for (std::int64_t s = own_.dropped(); s < end; ++s) states_[static_cast<std::size_t>(s)] = 0;
  own_.drop_before(end);
}

// Not before a row asks: few groups need more than one form of their keys.
template <class T>
void PackedKeys<T>::make_room() {
  if (has_room_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(room_mutex_);
  if (has_room_.load(std::memory_order_relaxed)) return;
  buffer_.reserve(strips_ * strip_size_);
  has_room_.store(true, std::memory_order_release);
}

template <class T>
const T* PackedKeys<T>::strip(std::int64_t s, const Job& job, const Group& group, const KeyFacts& facts,
                              Product product, std::vector<T>& rows) {
  const bool is_kept = form_ != nullptr;
  if (!is_kept) make_room();
  std::atomic<int>& state = states_[static_cast<std::size_t>(s)];
  const auto wanted = static_cast<int>(std::min(kStripKeys<T>, facts.key_count - s * kStripKeys<T>));
  int seen = state.load(std::memory_order_acquire);
  while (seen != wanted) {
    if (seen == kPacking) {
      state.wait(kPacking, std::memory_order_acquire);
      seen = state.load(std::memory_order_acquire);
    } else if (state.compare_exchange_strong(seen, kPacking, std::memory_order_acq_rel)) {
      try {
        T* out = is_kept ? own_.make(s) : buffer_.data() + s * strip_size_;
        const std::int64_t keys = pack_strip(job, group, facts, product, s, seen, wanted, out, rows);
        packed_bytes_.fetch_add(static_cast<std::uint64_t>(keys * strip_size_ / kStripKeys<T>) * sizeof(T),
                                std::memory_order_relaxed);
      } catch (...) {
        state.store(seen, std::memory_order_release);  // no memory, say: the threads that wait must not wait for ever
        state.notify_all();
        throw;
      }
      state.store(wanted, std::memory_order_release);
      state.notify_all();
      seen = wanted;
    }
  }
  return is_kept ? own_.at(s) : buffer_.data() + s * strip_size_;
}

template std::int64_t pack_strip(const Job&, const Group&, const KeyFacts&, Product, std::int64_t, std::int64_t,
                                 std::int64_t, float*, std::vector<float>&);
template std::int64_t pack_strip(const Job&, const Group&, const KeyFacts&, Product, std::int64_t, std::int64_t,
                                 std::int64_t, double*, std::vector<double>&);
template class PackedKeys<float>;
template class PackedKeys<double>;

KeyCache::KeyCache(const Job& job, const std::vector<Group>& groups)
    : job_(job),
      groups_(groups),
      slots_(std::min(static_cast<std::size_t>(job.plan.key_places), std::max<std::size_t>(groups.size(), 1))),
      turns_(slots_.size()) {
  if (job.problem.kept == nullptr) return;
  for (const Group& group : groups)
    kept_.push_back(&static_cast<KeptKeys*>(job.problem.kept)->slot(group, job.plan.product));
}

KeySlot& KeyCache::acquire(std::size_t group, const Poll& poll) {
  if (!kept_.empty()) return *kept_[group];
  KeySlot& slot = slots_[turns_.place_of(group)];
  std::unique_lock lock(mutex_);
  while (true) {
    const KeyTurns::Answer answer = turns_.ask(group, groups_[group].tasks);
    if (answer == KeyTurns::Answer::kReady) return slot;
    if (answer == KeyTurns::Answer::kPrepare) {
      lock.unlock();
      prepare(group, slot, poll);  // a failure leaves the place unready: the others are stopped by poll
      lock.lock();
      turns_.prepared(group);
      changed_.notify_all();
      return slot;
    }
    changed_.wait_for(lock, std::chrono::milliseconds(10));
    lock.unlock();
    poll();
    lock.lock();
  }
}

void KeyCache::prepare(std::size_t group, KeySlot& slot, const Poll& poll) {
  slot.group = &groups_[group];
  slot.facts = scan_group(job_, groups_[group], poll);
  if (job_.plan.pack == PackKeys::kPerTask) return;
  const std::int64_t d = job_.problem.head_dim();
  const auto reset = [&]<class T>(PackedKeys<T>& packed, Product product) {
    const std::int64_t strips = (slot.facts.key_count + kStripKeys<T> - 1) / kStripKeys<T>;
    packed.reset(strips, kStripKeys<T> * product_kernels<T>(product, job_.problem.k.dtype).key_depth(d));
  };
  reset(slot.f32, Product::kFloat);
  reset(slot.pairs, job_.plan.product);
  reset(slot.f64, Product::kFloat);
}

void KeyCache::told() {
  for (KeySlot* slot : kept_) slot->bad_keys_told = slot->facts.bad_keys.size();
}

void KeyCache::release(std::size_t group) {
  if (!kept_.empty()) return;
  const std::lock_guard lock(mutex_);
  if (turns_.release(group)) changed_.notify_all();
}

}  // namespace ag::cpu
