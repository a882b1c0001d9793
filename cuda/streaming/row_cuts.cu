// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "../stages/chunk_place.cuh"
#include "instances.hpp"
#include "margin.cuh"
#include "row_slots.cuh"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int32_t kNoKey = 0x7FFFFFFF;

// ln(e^a + e^b); either may be -inf.
__device__ double log_add(double a, double b) {
  const double high = a > b ? a : b, low = a > b ? b : a;
  return low > -infinity_f64() ? high + log1p(exp(low - high)) : high;
}

// Of all splits, into the first.
struct MergedState {
  double reference = 0, sum = 0, weighted = 0;
  float top = kLowestFloat;
};

__device__ __forceinline__ MergedState merge_splits(const StreamingArguments& a, std::int64_t row) {
  MergedState merged;
  for (std::int32_t s = 0; s < a.splits; ++s) {
    const std::int64_t n = s * a.batch.rows + row;
    const float top = a.top[n];
    if (top == kLowestFloat) continue;
    const double reference = a.states.reference[n];
    if (merged.top == kLowestFloat || reference > merged.reference) merged.reference = reference;
    merged.top = fmaxf(merged.top, top);
  }
  for (std::int32_t s = 0; s < a.splits; ++s) {
    const std::int64_t n = s * a.batch.rows + row;
    if (a.top[n] == kLowestFloat) continue;
    const double shift = a.states.reference[n] - merged.reference, factor = exp(shift);
    if (factor == 0) continue;
    merged.sum = fma(factor, a.states.sum[n], merged.sum);
    if (a.states.weighted != nullptr) {
      merged.weighted = fma(factor, fma(shift, a.states.sum[n], a.states.weighted[n]), merged.weighted);
    }
  }
  return merged;
}

// A base-2 cut in units of products, rounded down; -inf, or a NaN, lets every pair pass.
__device__ __forceinline__ float product_cut(double cut2, double inverse_unit) {
  const double cut = cut2 * inverse_unit;
  return cut > -1e37 ? static_cast<float>(cut - fabs(cut) * 0x1p-22) : -1e37f;
}

// A thread a row.
__global__ void __launch_bounds__(kThreads) row_cuts_kernel(StreamingArguments a, RowCut* cuts, bool general) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= a.batch.count * a.batch.most_rows) return;
  const ChunkPlace at(n, a.batch.most_rows);
  const Chunk& chunk = a.batch.chunks[at.chunk];
  ChunkFacts& facts = a.batch.facts[at.chunk];
  if (at.unit >= chunk.rows()) return;
  const std::int64_t row = chunk.first_row + at.unit;
  a.candidates.count[row] = 0;
  a.states.max_key[row] = kNoKey;
  if (facts.judged_double != 0) return;

  const MergedState merged = merge_splits(a, row);
  a.states.reference[row] = merged.reference;
  a.states.sum[row] = merged.sum;
  if (a.states.weighted != nullptr) a.states.weighted[row] = merged.weighted;
  if (merged.top == kLowestFloat) {
    cuts[row] = {kHighestFloat, kHighestFloat};
    return;
  }
  const double maximum = static_cast<double>(merged.top) * facts.units.natural_unit;
  if (facts.band.too_wide(maximum)) atomicExch(&facts.found_double, 1);
  double logsumexp = merged.reference + log(merged.sum);
  if (chunk.sink != nullptr) logsumexp = log_add(logsumexp, chunk.sink[at.unit / chunk.queries]);
  if (chunk.given_logsumexp != nullptr) logsumexp = chunk.given_logsumexp[at.unit];
  const double band = facts.band.band(chunk.norm_of(at.unit)) + 2 * facts.band.bias_error(maximum);
  const double cut2 = (logsumexp + chunk.log_threshold - (band + kCutSlack)) * kLog2E;
  const double inverse_unit = general ? 1.0 : 1.0 / static_cast<double>(facts.units.unit);
  cuts[row] = {product_cut(cut2 - fabs(cut2) * 0x1p-22, inverse_unit), merged.top};
}

// Order of floats as order of unsigned numbers.
__device__ __forceinline__ std::uint32_t ordered(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// A warp a row: the top_k-th largest of the groups' tops, which at least top_k keys reach, as a cut when it is higher.
// Bit by bit: the largest number that at least top_k of them reach.
__global__ void __launch_bounds__(kThreads) raise_cuts_kernel(StreamingArguments a, RowCut* cuts, std::int64_t top_k) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t n = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (n >= a.batch.count * a.batch.most_rows) return;
  const ChunkPlace at(n, a.batch.most_rows);
  const Chunk& chunk = a.batch.chunks[at.chunk];
  const ChunkFacts& facts = a.batch.facts[at.chunk];
  if (at.unit >= chunk.rows() || facts.in_double()) return;
  const std::int64_t row = chunk.first_row + at.unit;
  if (cuts[row].top == kHighestFloat) return;
  const float* const tops = a.groups.top + row * a.groups.count;
  std::uint32_t found = 0;
  for (std::uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    const std::uint32_t candidate = found | bit;
    std::int64_t reach = 0;
    for (std::int64_t first = 0; first < a.groups.count; first += 32) {
      const std::int64_t g = first + lane;
      reach += __popc(__ballot_sync(kAllLanes, g < a.groups.count && ordered(tops[g]) >= candidate));
    }
    if (reach >= top_k) found = candidate;
  }
  if (lane != 0) return;
  const float bound = __uint_as_float(found >> 31 ? found ^ 0x80000000u : ~found);
  if (!(bound > kLowestFloat)) return;
  const double maximum = static_cast<double>(cuts[row].top) * facts.units.natural_unit;
  const double band = facts.band.band(chunk.norm_of(at.unit)) + 2 * facts.band.bias_error(maximum);
  const double bound2 = static_cast<double>(bound);  // groups belong to the general variant: base 2
  const float cut = product_cut(bound2 - fabs(bound2) * 0x1p-22 - (band + kCutSlack) * kLog2E, 1.0);
  cuts[row].cut = fmaxf(cuts[row].cut, cut);
}

}  // namespace

cudaError_t launch_row_cuts(const StreamingArguments& a, RowCut* d_cuts, std::int64_t top_k, bool general,
                            cudaStream_t stream) {
  if (a.batch.rows == 0) return cudaSuccess;
  const std::int64_t rows = a.batch.count * a.batch.most_rows;
  const cudaLaunchConfig_t config = launch_config(blocks_for(rows, kThreads), kThreads, stream);
  const cudaError_t code = cudaLaunchKernelEx(&config, row_cuts_kernel, a, d_cuts, general);
  if (code != cudaSuccess || top_k == 0 || a.groups.top == nullptr) return code;
  const cudaLaunchConfig_t warps = launch_config(blocks_for(rows * 32, kThreads), kThreads, stream);
  return cudaLaunchKernelEx(&warps, raise_cuts_kernel, a, d_cuts, top_k);
}

}  // namespace ag::cuda
