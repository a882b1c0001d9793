// SPDX-License-Identifier: Apache-2.0
// The length of every row, and whether all its numbers are finite.
#include "launch.hpp"
#include "mask.cuh"
#include "stages.hpp"
#include "warp.cuh"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

// kLanes threads a row: 32 where a row's elements are neighbours in memory, 1 where the rows' are.
template <DType kType, int kLanes>
__global__ void __launch_bounds__(kThreads)
    inspect_rows_kernel(AnyTensor rows, const std::int64_t* head_ids, std::int64_t heads, std::int64_t first_row,
                        std::int64_t count, std::int64_t dim, double* norm) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t r = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  if (r >= heads * count) return;
  const std::int64_t g = r / count;
  const std::int64_t head = head_ids != nullptr ? head_ids[g] : 0;
  const std::int64_t first = element_offset(rows, head, first_row + r % count, 0);

  double largest = 0;
  bool finite = true;
  for (std::int64_t d = lane; d < dim; d += kLanes) {
    const double x = fabs(load_double(static_cast<std::int32_t>(kType), rows.data, first + d * rows.stride_column));
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
    const double x = load_double(static_cast<std::int32_t>(kType), rows.data, first + d * rows.stride_column) * inverse;
    sum = fma(x, x, sum);
  }
  if constexpr (kLanes == 32) sum = warp_sum(sum);
  if (lane == 0) norm[r] = finite ? unit * sqrt(sum) : __longlong_as_double(0x7FF8000000000000LL);
}

}  // namespace

cudaError_t launch_inspect_rows(AnyTensor rows, const std::int64_t* d_head_ids, std::int64_t heads,
                                std::int64_t first_row, std::int64_t count, std::int64_t dim, double* d_norm,
                                cudaStream_t stream) {
  if (heads <= 0 || count <= 0) return cudaSuccess;
  const bool columns_are_near = std::abs(rows.stride_column) <= std::abs(rows.stride_row);
  return with_float_dtype(rows.dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::value;
    const std::int64_t threads = heads * count * (columns_are_near ? 32 : 1);
    const cudaLaunchConfig_t config = launch_config(blocks_for(threads, kThreads), kThreads, stream);
    if (columns_are_near) {
      return cudaLaunchKernelEx(&config, inspect_rows_kernel<kType, 32>, rows, d_head_ids, heads, first_row, count, dim,
                                d_norm);
    }
    return cudaLaunchKernelEx(&config, inspect_rows_kernel<kType, 1>, rows, d_head_ids, heads, first_row, count, dim,
                              d_norm);
  });
}

}  // namespace ag::cuda
