// SPDX-License-Identifier: Apache-2.0
// Top-k and mass among the edges of each row, as core/select.hpp cuts them: both are prefixes of the order weight
// descending, key ascending. No row is sorted: the weight at which the prefix ends is looked for by halving.
#include "../device/exact_sum.cuh"
#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "candidates.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

// The edges of a row whose weights are at least some weight.
struct Heavier {
  std::int64_t count = 0;
  ExactSum sum;
  unsigned long long least = ~0ull;  // bits of the smallest of them
};

// One row in the hands of a warp. Weights are not negative, so that their bits have their order.
class RowEdges {
 public:
  __device__ RowEdges(const Candidates& candidates, const double* weights, std::int64_t row) {
    const CandidateRow place = candidate_row(candidates, row);
    const std::int64_t counted = candidates.count[row];
    count_ = counted < place.capacity ? counted : place.capacity;
    keys_ = candidates.keys + place.begin;
    weights_ = weights + place.begin;
  }

  // f(n, key, bits of the weight) of the lane's edges.
  template <class F>
  __device__ void for_each(F&& f) const {
    for (std::int64_t n = threadIdx.x % 32; n < count_; n += 32) {
      const std::int32_t key = keys_[n];
      if (key >= 0) f(n, key, static_cast<unsigned long long>(__double_as_longlong(weights_[n])));
    }
  }

  __device__ Heavier from(unsigned long long bits) const {
    Heavier h;
    for_each([&](std::int64_t, std::int32_t, unsigned long long own) {
      if (own < bits) return;
      ++h.count;
      h.sum.add(__longlong_as_double(static_cast<long long>(own)));
      h.least = own < h.least ? own : h.least;
    });
    for (int step = 16; step >= 1; step /= 2) {
      h.count += __shfl_xor_sync(kAllLanes, h.count, step);
      h.sum.add(ExactSum{__shfl_xor_sync(kAllLanes, h.sum.high, step), __shfl_xor_sync(kAllLanes, h.sum.low, step)});
      const unsigned long long other = __shfl_xor_sync(kAllLanes, h.least, step);
      h.least = other < h.least ? other : h.least;
    }
    return h;
  }

  // How many edges of exactly this weight have keys up to `last`.
  __device__ std::int64_t equals_up_to(unsigned long long bits, std::int64_t last) const {
    std::int64_t count = 0;
    for_each([&](std::int64_t, std::int32_t key, unsigned long long own) { count += own == bits && key <= last; });
    for (int step = 16; step >= 1; step /= 2) count += __shfl_xor_sync(kAllLanes, count, step);
    return count;
  }

  __device__ void drop(std::int64_t n) { keys_[n] = ~keys_[n]; }

 private:
  std::int64_t count_ = 0;
  std::int32_t* keys_ = nullptr;
  const double* weights_ = nullptr;
};

// The wanted prefix: it ends with the first edge that completes one of the two.
struct Wanted {
  std::int64_t top_k = 0;  // 0: any number
  double mass = 0;         // 0: any
  __device__ bool reached(const Heavier& h) const {
    return (top_k > 0 && h.count >= top_k) || (mass > 0 && h.sum.less(mass) >= 0);
  }
  // The fewest edges of one weight that complete what is heavier, which does not reach.
  __device__ std::int64_t missing(const Heavier& heavier, double weight, std::int64_t most) const {
    std::int64_t n = most;
    if (top_k > 0 && top_k - heavier.count < n) n = top_k - heavier.count;
    if (mass > 0 && weight > 0) {
      const double short_of = heavier.sum.less(mass), quotient = ceil(-short_of / weight);
      if (quotient <= static_cast<double>(n)) {
        auto of_mass = static_cast<std::int64_t>(quotient);
        // The quotient is rounded; the sum is not.
        if (of_mass > 1 && fma(static_cast<double>(of_mass - 1), weight, short_of) >= 0) --of_mass;
        if (fma(static_cast<double>(of_mass), weight, short_of) < 0) ++of_mass;
        n = of_mass < n ? of_mass : n;
      }
    }
    return n;
  }
};

// A warp a row.
__global__ void __launch_bounds__(kThreads)
    select_rows_kernel(std::int64_t rows, std::int64_t keys, Candidates candidates, const double* weights,
                       Wanted wanted, std::int64_t* edge_counts, double* kept_mass) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= rows) return;
  const std::int64_t edges = edge_counts[row];
  if (edges == 0 || (wanted.mass <= 0 && edges <= wanted.top_k)) return;
  RowEdges all(candidates, weights, row);

  // Edges of `low` bits and more reach what is wanted, those of `high` and more do not.
  unsigned long long low = 0, high = ~0ull >> 1;
  Heavier at_low = all.from(low), at_high;
  if (!wanted.reached(at_low)) return;
  while (high - low > 1 && at_low.count - at_high.count > 1) {
    const unsigned long long middle = low + (high - low) / 2;
    const Heavier at = all.from(middle);
    if (wanted.reached(at)) {
      low = middle;
      at_low = at;
    } else {
      high = middle;
      at_high = at;
    }
  }
  // What stands between them is one edge, or several of one weight: then those of the smallest keys.
  const unsigned long long last_bits = at_low.least;
  const double last_weight = __longlong_as_double(static_cast<long long>(last_bits));
  const std::int64_t equals = at_low.count - at_high.count;
  const std::int64_t taken = equals > 1 ? wanted.missing(at_high, last_weight, equals) : 1;
  std::int64_t last_key = keys - 1;
  if (taken < equals) {
    std::int64_t below = -1;  // so many keys are too few
    while (last_key - below > 1) {
      const std::int64_t middle = below + (last_key - below) / 2;
      if (all.equals_up_to(last_bits, middle) >= taken) {
        last_key = middle;
      } else {
        below = middle;
      }
    }
  }
  all.for_each([&](std::int64_t n, std::int32_t key, unsigned long long own) {
    if (own < last_bits || (own == last_bits && key > last_key)) all.drop(n);
  });
  __syncwarp();  // all lanes have read the count that lane 0 replaces
  if (lane != 0) return;
  edge_counts[row] = at_high.count + taken;
  for (std::int64_t n = 0; n < taken; ++n) at_high.sum.add(last_weight);
  kept_mass[row] = at_high.sum.value();
}

}  // namespace

cudaError_t launch_select_rows(std::int64_t rows, std::int64_t keys, const Candidates& candidates,
                               const double* d_weights, std::int64_t top_k, double mass, std::int64_t* d_edge_counts,
                               double* d_kept_mass, cudaStream_t stream) {
  if (d_weights == nullptr || candidates.keys == nullptr) return cudaErrorInvalidValue;
  if (rows == 0 || (top_k <= 0 && mass <= 0)) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(blocks_for(rows, kThreads / 32), kThreads, stream);
  return cudaLaunchKernelEx(&config, select_rows_kernel, rows, keys, candidates, d_weights, Wanted{top_k, mass},
                            d_edge_counts, d_kept_mass);
}

}  // namespace ag::cuda
