// SPDX-License-Identifier: Apache-2.0
// The length of every row, and whether all its numbers are finite.
#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "chunk_place.cuh"
#include "mask.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

// kLanes threads a row: 32 where a row's elements are neighbours in memory, 1 where the rows' are. First the queries of
// a chunk, then its keys.
template <DType kType, int kLanes>
__global__ void __launch_bounds__(kThreads) inspect_rows_kernel(Batch batch) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t n = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  if (n >= batch.count * (batch.most_all_rows + batch.most_keys)) return;
  const ChunkPlace at(n, batch.most_all_rows + batch.most_keys);
  const Chunk& chunk = batch.chunks[at.chunk];
  const bool is_key = at.unit >= batch.most_all_rows;
  const std::int64_t r = is_key ? at.unit - batch.most_all_rows : at.unit;
  if (r >= (is_key ? chunk.mask.key_count : chunk.heads * chunk.all_queries)) return;
  const AnyTensor& rows = is_key ? chunk.k : chunk.q;
  const std::int64_t g = is_key ? 0 : r / chunk.all_queries;
  const std::int64_t head = is_key ? 0 : chunk.head_ids[g];
  const std::int64_t first = element_offset(rows, head, is_key ? r : r - g * chunk.all_queries, 0);
  const std::int64_t dim = batch.head_dim, stride = rows.stride_column;
  const void* const data = rows.data;

  double largest = 0;
  bool finite = true;
  for (std::int64_t d = lane; d < dim; d += kLanes) {
    const double x = fabs(load_double(static_cast<std::int32_t>(kType), data, first + d * stride));
    finite = finite && x < infinity_f64();
    largest = x > largest ? x : largest;
  }
  if constexpr (kLanes == 32) {
    largest = warp_max(largest);
    finite = __all_sync(kAllLanes, finite);
  }
  // Only squares of f64 can overflow or vanish: they are taken of values in units of a power of two near the largest.
  double unit = 1, inverse = 1;
  if (kType == DType::kF64 && finite) {
    long long exponent = __double_as_longlong(largest) >> 52;  // biased
    exponent = exponent < 1 ? 1 : exponent > 2045 ? 2045 : exponent;
    unit = __longlong_as_double(exponent << 52);
    inverse = __longlong_as_double((2046 - exponent) << 52);
  }
  double sum = 0;
  for (std::int64_t d = lane; d < dim; d += kLanes) {
    const double x = load_double(static_cast<std::int32_t>(kType), data, first + d * stride) * inverse;
    sum = fma(x, x, sum);
  }
  if constexpr (kLanes == 32) sum = warp_sum(sum);
  if (lane == 0)
    (is_key ? chunk.k_norms : chunk.q_norms)[r] =
        finite ? unit * sqrt(sum) : __longlong_as_double(0x7FF8000000000000LL);
}

}  // namespace

cudaError_t launch_inspect_rows(const Batch& batch, bool columns_are_near, cudaStream_t stream) {
  const std::int64_t rows = batch.count * (batch.most_all_rows + batch.most_keys);
  if (rows == 0) return cudaSuccess;
  return with_float_dtype(batch.dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::value;
    const std::int64_t threads = rows * (columns_are_near ? 32 : 1);
    const cudaLaunchConfig_t config = launch_config(blocks_for(threads, kThreads), kThreads, stream);
    return columns_are_near ? cudaLaunchKernelEx(&config, inspect_rows_kernel<kType, 32>, batch)
                            : cudaLaunchKernelEx(&config, inspect_rows_kernel<kType, 1>, batch);
  });
}

}  // namespace ag::cuda
