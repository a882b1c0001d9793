// SPDX-License-Identifier: Apache-2.0
// The length of every row, and whether all its numbers are finite.
#include <cstddef>

#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "chunk_place.cuh"
#include "mask.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLaneBytes = 16;  // of a row, at a time

// Rows are read by a lane each where their elements are far apart in memory, and the rows' neighbours are near; by a
// warp each where elements are near; by 8 lanes each where they are neighbours at multiples of kLaneBytes.
enum class Reading { kLane, kWarp, kWords };
template <Reading kReading>
inline constexpr int kLanesOf = kReading == Reading::kLane   ? 1
                                : kReading == Reading::kWarp ? 32
                                                             : 8;

// What a lane has seen of its row, or all lanes of theirs.
template <DType kType, int kLanes>
struct RowLength {
  double largest = 0, sum = 0;
  bool finite = true;

  __device__ __forceinline__ void look(double x) {
    x = fabs(x);
    finite = finite && x < infinity_f64();
    if constexpr (kType == DType::kF64) {
      largest = x > largest ? x : largest;
    } else {
      sum = fma(x, x, sum);  // of these no square overflows or vanishes
    }
  }
  __device__ __forceinline__ void join() {
    for (int step = kLanes / 2; step > 0; step /= 2) {
      if constexpr (kType == DType::kF64) {
        const double other = __shfl_xor_sync(kAllLanes, largest, step);
        largest = other > largest ? other : largest;
      } else {
        sum += __shfl_xor_sync(kAllLanes, sum, step);
      }
      finite = __shfl_xor_sync(kAllLanes, finite ? 1 : 0, step) != 0 && finite;
    }
  }
};

// First the queries of a chunk, then its keys.
template <DType kType, Reading kReading>
__global__ void __launch_bounds__(kThreads) inspect_rows_kernel(Batch batch) {
  constexpr int kLanes = kLanesOf<kReading>;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t n = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  const std::int64_t units = batch.most_all_rows + batch.most_keys;
  const bool in_batch = n < batch.count * units;
  const ChunkPlace at(in_batch ? n : 0, units);
  const Chunk& chunk = batch.chunks[at.chunk];
  const bool is_key = at.unit >= batch.most_all_rows;
  const std::int64_t r = is_key ? at.unit - batch.most_all_rows : at.unit;
  // All lanes of a warp stay for the shuffles.
  const bool exists = in_batch && r < (is_key ? chunk.mask.key_count : chunk.heads * chunk.all_queries);
  const AnyTensor& rows = is_key ? chunk.k : chunk.q;
  const std::int64_t g = is_key || !exists ? 0 : r / chunk.all_queries;
  const std::int64_t head = is_key ? 0 : chunk.head_ids[g];
  const std::int64_t first = element_offset(rows, head, is_key ? r : r - g * chunk.all_queries, 0);
  const std::int64_t dim = exists ? batch.head_dim : 0, stride = rows.stride_column;
  const void* const data = rows.data;

  const auto each = [&](auto&& look) {
    if constexpr (kReading == Reading::kWords) {
      constexpr int kElements = kLaneBytes / kSizeOf<kType>;
      for (std::int64_t d = lane * kElements; d < dim; d += kLanes * kElements) {
        const uint4 words =
            *reinterpret_cast<const uint4*>(static_cast<const std::byte*>(data) + (first + d) * kSizeOf<kType>);
        const std::uint32_t parts[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (const std::uint32_t part : parts) {
          if constexpr (kType == DType::kF32) {
            look(static_cast<double>(__uint_as_float(part)));
          } else if constexpr (kType == DType::kF16) {
            look(static_cast<double>(f16_value(static_cast<std::uint16_t>(part & 0xFFFFu))));
            look(static_cast<double>(f16_value(static_cast<std::uint16_t>(part >> 16))));
          } else {
            look(static_cast<double>(bf16_value(static_cast<std::uint16_t>(part & 0xFFFFu))));
            look(static_cast<double>(bf16_value(static_cast<std::uint16_t>(part >> 16))));
          }
        }
      }
    } else {
      for (std::int64_t d = lane; d < dim; d += kLanes)
        look(load_double(static_cast<std::int32_t>(kType), data, first + d * stride));
    }
  };
  RowLength<kType, kLanes> seen;
  each([&](double x) { seen.look(x); });
  seen.join();
  double unit = 1;
  if constexpr (kType == DType::kF64) {
    // Squares of f64 can overflow or vanish: they are taken of values in units of a power of two near the largest.
    double inverse = 1;
    if (seen.finite) {
      long long exponent = __double_as_longlong(seen.largest) >> 52;  // biased
      exponent = exponent < 1 ? 1 : exponent > 2045 ? 2045 : exponent;
      unit = __longlong_as_double(exponent << 52);
      inverse = __longlong_as_double((2046 - exponent) << 52);
    }
    double sum = 0;
    each([&](double x) { sum = fma(x * inverse, x * inverse, sum); });
    for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    seen.sum = sum;
  }
  if (lane == 0 && exists)
    (is_key ? chunk.k_norms : chunk.q_norms)[r] =
        seen.finite ? unit * sqrt(seen.sum) : __longlong_as_double(0x7FF8000000000000LL);
}

}  // namespace

cudaError_t launch_inspect_rows(const Batch& batch, RowStorage storage, cudaStream_t stream) {
  const std::int64_t rows = batch.count * (batch.most_all_rows + batch.most_keys);
  if (rows == 0) return cudaSuccess;
  return with_float_dtype(batch.dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::value;
    const auto launch = [&](auto kernel, int lanes) {
      const cudaLaunchConfig_t config = launch_config(blocks_for(rows * lanes, kThreads), kThreads, stream);
      return cudaLaunchKernelEx(&config, kernel, batch);
    };
    if constexpr (kType != DType::kF64) {
      if (storage == RowStorage::kWords) {
        return launch(inspect_rows_kernel<kType, Reading::kWords>, kLanesOf<Reading::kWords>);
      }
    }
    return storage == RowStorage::kFar ? launch(inspect_rows_kernel<kType, Reading::kLane>, kLanesOf<Reading::kLane>)
                                       : launch(inspect_rows_kernel<kType, Reading::kWarp>, kLanesOf<Reading::kWarp>);
  });
}

}  // namespace ag::cuda
