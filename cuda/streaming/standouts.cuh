// SPDX-License-Identifier: Apache-2.0
// Scores that stand out: new maxima, and candidates on their way into the rows' buffers.
//
// Invariant: the candidates stored for a row are those of its scores so far, in the order of visit, that are at least
// the cut of some time between their visit and now. When the next ones do not fit, the buffer is compacted with the cut
// of now. With an online cut, n survivors are each at least t e^-margin of the sum S of all keys so far, themselves
// among them: S >= n t e^-margin S, so n <= e^margin / t. A capacity of that and one step of keys cannot overflow
// (capacity.hpp). Where no threshold bounds the survivors (top-k among equals, a given logsumexp that is too small), a
// row may have more candidates than capacity: then its count says so, and nothing is written beyond its buffer.
#pragma once

#include <cstdint>

#include "arguments.hpp"
#include "row_slots.cuh"
#include "shape.hpp"

namespace ag::cuda {

// What a block knows of its rows, in shared memory; written before the first key, then only read.
template <class S>
struct RowTable {
  std::int64_t row[S::kRows];    // of the chunk; -1: beyond its last
  std::int64_t place[S::kRows];  // of its candidates
  std::int32_t begin[S::kRows];  // keys [begin, end); both 0 for a row that may see none
  std::int32_t end[S::kRows];
};

// A base-2 cut in units of products, rounded down.
__device__ __forceinline__ float product_cut(float cut2, float inverse_unit) {
  const float cut = cut2 * inverse_unit;
  return fmaf(-0x1p-21f, fabsf(cut), cut);
}

template <class S>
using Scores = float[S::kMTiles][S::kNTiles][4];

// Score i of those that a thread holds of slot s: of key first + key_of_score(i).
template <class S>
__device__ __forceinline__ float& slot_score(Scores<S>& scores, int s, int i) {
  return scores[s / 2][i / 2][s % 2 * 2 + i % 2];
}
__device__ __forceinline__ int key_of_score(int i) {
  return i / 2 * 8 + 2 * (static_cast<int>(threadIdx.x) % 4) + i % 2;
}

// Called by whole warps; every lane passes its own slots.
template <class S>
struct Standouts {
  const StreamingArguments& a;
  const RowTable<S>& table;
  float unit, inverse_unit;  // of products as the scores are given: 1 in the general variant

  // `largest` are the lane's largest scores by slot; some of the warp's is at or above its row's maximum or cut.
  __device__ __forceinline__ void visit(RowSlots<S>& slots, Scores<S>& scores, const float (&largest)[S::kSlots],
                                        int first_key) const {
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      if (__any_sync(kAllLanes, largest[s] >= slots.top[s])) take_maximum(slots, s, scores, largest[s], first_key);
    }
    if (a.cut_source == CutSource::kNone) return;
    const bool full = slots.count + S::kStep > a.candidates.capacity && lane() % 4 < S::kSlots;
    if (__any_sync(kAllLanes, full)) make_room(slots, full);
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      if (__any_sync(kAllLanes, largest[s] >= slots.cut[s])) append(slots, s, scores, first_key);
    }
  }

  // Raises the cuts to what the sums so far allow; a rough logarithm leaves them a little lower than they could be.
  __device__ __forceinline__ void raise_cuts(RowSlots<S>& slots, bool rough) const {
    if (a.cut_source != CutSource::kOnline) return;
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      const float sum = quad_sum(slots.sum[s] + slots.tile[s]);
      const float margin = __shfl_sync(kAllLanes, slots.margin, keeper(s));
      if (sum < 0x1p-126f) continue;
      const float log2_sum = rough ? log2_below(sum) : log2f(sum);
      const float cut2 = slots.reference[s] + log2_sum + (a.log2_threshold - margin);
      slots.cut[s] = fmaxf(slots.cut[s], product_cut(cut2, inverse_unit));
    }
  }

 private:
  __device__ static __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static __forceinline__ int keeper(int s) { return (lane() & ~3) | s; }  // of slot s's rare words
  __device__ static __forceinline__ int row_of(int quad, int s) {
    return static_cast<int>(threadIdx.x) / 32 * S::kWarpRows + s * 8 + quad;
  }

  // Bit k: key first + k of the quad's row passes.
  template <class Test>
  __device__ __forceinline__ std::uint32_t row_bits(Scores<S>& scores, int s, Test&& test) const {
    std::uint32_t bits = 0;
#pragma unroll
    for (int i = 0; i < S::kSlotScores; ++i) {
      if (test(slot_score<S>(scores, s, i))) bits |= 1u << (i / 2 * 8 + i % 2);
    }
    return quad_or(bits << (2 * (lane() % 4)));
  }

  // Equal scores count as well: tiles are not visited in ascending order, and the smallest key is wanted.
  __device__ __forceinline__ void take_maximum(RowSlots<S>& slots, int s, Scores<S>& scores, float largest,
                                               int first_key) const {
    largest = quad_max(largest);
    const std::uint32_t equal = row_bits(scores, s, [&](float x) { return x == largest; });
    const float margin = __shfl_sync(kAllLanes, slots.margin, keeper(s));
    const float top = slots.top[s];
    if (largest < top) return;
    const int key = first_key + __ffs(static_cast<int>(equal)) - 1;
    if (lane() % 4 == s && (largest > top || slots.max_key < 0 || key < slots.max_key)) slots.max_key = key;
    const float score2 = largest * unit;
    if (top == kLowestFloat || score2 - slots.reference[s] > kHeadroom) {
      slots.move_reference(s, rintf(score2), a.entropy);
    }
    slots.top[s] = largest;
    if (a.cut_source == CutSource::kOnline) {  // the sum is at least the maximum's term
      slots.cut[s] = fmaxf(slots.cut[s], product_cut(score2 + (a.log2_threshold - margin), inverse_unit));
    }
  }

  __device__ __forceinline__ void append(RowSlots<S>& slots, int s, Scores<S>& scores, int first_key) const {
    const float cut = slots.cut[s];
    const std::uint32_t bits = row_bits(scores, s, [&](float x) { return x >= cut; });
    const int count = __shfl_sync(kAllLanes, slots.count, keeper(s));
    if (lane() % 4 == s) slots.count = count + __popc(bits);
    const std::int64_t place = table.place[row_of(lane() / 4, s)];
#pragma unroll
    for (int i = 0; i < S::kSlotScores; ++i) {
      const int k = key_of_score(i);
      const std::int64_t n = count + __popc(bits & ((1u << k) - 1));
      if ((bits >> k & 1) != 0 && n < a.candidates.capacity) {
        a.candidates.keys[place + n] = first_key + k;
        a.candidates.scores[place + n] = slot_score<S>(scores, s, i) * unit;
      }
    }
  }

  // Compacts the buffers of the rows whose keeping lanes say `full`, one after the other, by the whole warp.
  __device__ __forceinline__ void make_room(RowSlots<S>& slots, bool full) const {
    raise_cuts(slots, false);
    float cut2 = kLowestFloat;
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      const float of_slot = slots.cut[s] * unit;
      if (lane() % 4 == s) cut2 = of_slot;
    }
    __syncwarp();  // what other lanes have stored is read below
    // Over capacity already: its tail is lost, and the row will be done again with more room.
    std::uint32_t rows = __ballot_sync(kAllLanes, full && slots.count <= a.candidates.capacity);
    for (; rows != 0; rows &= rows - 1) {
      const int owner = __ffs(static_cast<int>(rows)) - 1;
      const std::int64_t place = table.place[row_of(owner / 4, owner % 4)];
      const int stored = __shfl_sync(kAllLanes, slots.count, owner);
      float row_cut2 = __shfl_sync(kAllLanes, cut2, owner);
      if (a.top_k > 0 && stored >= a.top_k) {
        const float margin = __shfl_sync(kAllLanes, slots.margin, owner);
        row_cut2 = fmaxf(row_cut2, kth_largest(a.candidates.scores + place, stored, a.top_k) - margin);
      }
      const int kept = compact(a.candidates.keys + place, a.candidates.scores + place, stored, row_cut2);
      if (lane() == owner) {
        slots.count = kept;
        cut2 = row_cut2;
      }
    }
    __syncwarp();
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      const float raised = product_cut(__shfl_sync(kAllLanes, cut2, keeper(s)), inverse_unit);
      slots.cut[s] = fmaxf(slots.cut[s], raised);
    }
  }

  // Keeps the entries at or above cut2, in their order. Returns how many.
  __device__ static __forceinline__ int compact(std::int32_t* keys, float* scores, int stored, float cut2) {
    int kept = 0;
#pragma unroll 1
    for (int first = 0; first < stored; first += 32) {
      const int n = first + lane();
      const std::int32_t key = n < stored ? keys[n] : 0;
      const float score = n < stored ? scores[n] : kLowestFloat;
      const bool keep = n < stored && score >= cut2;
      const std::uint32_t bits = __ballot_sync(kAllLanes, keep);
      __syncwarp();  // all have read before any writes; later chunks are never written before they are read
      if (keep) {
        const int to = kept + __popc(bits & ((1u << lane()) - 1));
        keys[to] = key;
        scores[to] = score;
      }
      kept += __popc(bits);
    }
    return kept;
  }

  // Order of floats as order of unsigned numbers.
  __device__ static __forceinline__ std::uint32_t ordered(float x) {
    const std::uint32_t bits = __float_as_uint(x);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
  }

  // The k-th largest of `stored` >= k scores: the largest number that at least k of them reach, bit by bit.
  __device__ static __forceinline__ float kth_largest(const float* scores, int stored, std::int64_t k) {
    std::uint32_t found = 0;
#pragma unroll 1
    for (std::uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
      const std::uint32_t candidate = found | bit;
      std::int64_t reach = 0;
#pragma unroll 1
      for (int first = 0; first < stored; first += 32) {
        const int n = first + lane();
        reach += __popc(__ballot_sync(kAllLanes, n < stored && ordered(scores[n]) >= candidate));
      }
      if (reach >= k) found = candidate;
    }
    return __uint_as_float(found >> 31 ? found ^ 0x80000000u : ~found);
  }
};

}  // namespace ag::cuda
