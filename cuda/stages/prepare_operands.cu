// SPDX-License-Identifier: Apache-2.0
// Rows of any strides as contiguous rows, padded with zeros, in the form that the score passes take.
#include <cuda_fp16.h>

#include <cstddef>

#include "../device/launch.hpp"
#include "chunk_place.cuh"
#include "mask.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWordLanes = 8;  // a row, where rows are read by 16 bytes

enum class Form { kBits16, kSplit, kF32 };

// f32 to its two parts. Scaled it is below 2^10 in size, so exact in float unless it is below 2^-126, where it is
// nothing to the row's length.
struct SplitValue {
  __half high, low;
  __device__ __forceinline__ SplitValue(double x, double factor) {
    const float scaled = static_cast<float>(x * factor);
    high = __float2half_rn(scaled);
    low = __float2half_rn(scaled - __half2float(high));
  }
};

__device__ __forceinline__ std::uint32_t pair_of(__half first, __half second) {
  return __half_as_ushort(first) | static_cast<std::uint32_t>(__half_as_ushort(second)) << 16;
}

// kLanes lanes a row, 32 or, by words, kWordLanes: the queries of a chunk, then its keys. Rows that hold NaN or
// infinity keep them: their scores are masked.
template <DType kType, Form kForm, int kLanes>
__global__ void __launch_bounds__(kThreads) prepare_operands_kernel(Batch batch, Operands operands) {
  const std::int64_t n = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kLanes;
  if (n >= batch.count * (batch.most_rows + batch.keys)) return;
  const ChunkPlace at(n, batch.most_rows + batch.keys);
  // Kernels of our own leave such chunks alone; cuBLAS multiplies them with the rest.
  if (operands.packed && batch.facts[at.chunk].in_double()) return;
  const Chunk& chunk = batch.chunks[at.chunk];
  const bool is_key = at.unit >= batch.most_rows;
  const std::int64_t r = is_key ? at.unit - batch.most_rows : at.unit;
  if (!is_key && r >= chunk.rows()) return;
  const bool exists = !is_key || r < chunk.mask.key_count;
  const AnyTensor& rows = is_key ? chunk.k : chunk.q;
  std::int64_t g = 0, i = r;
  if (!is_key) {
    g = operands.packed ? r % chunk.heads : r / chunk.queries;
    i = chunk.query_begin + (operands.packed ? r / chunk.heads : r % chunk.queries);
  }
  const std::int64_t first = exists ? element_offset(rows, is_key ? 0 : chunk.head_ids[g], i, 0) : 0;
  const std::int64_t to = is_key ? at.chunk * batch.keys + r : chunk.first_row + r;
  void* const out = is_key ? operands.k : operands.q;
  const std::int64_t pitch = operands.pitch, dim = batch.head_dim, stride = rows.stride_column;
  const void* const data = rows.data;
  const ScoreUnits& units = batch.facts[at.chunk].units;
  const int exponent = kForm == Form::kSplit ? (is_key ? units.k_exponent : units.q_exponent) : 0;
  const double factor = __longlong_as_double(static_cast<long long>(exponent + 1023) << 52);

  if constexpr (kLanes == kWordLanes) {
    // 16 bytes of the row as given, each: its length is a multiple of that, and so is the pitch.
    constexpr int kElements = 16 / kSizeOf<kType>;
    for (std::int64_t d = threadIdx.x % kLanes * kElements; d < pitch; d += kLanes * kElements) {
      const bool wanted = exists && d < dim;
      const auto* const from = static_cast<const std::byte*>(data) + (first + d) * kSizeOf<kType>;
      const uint4 words = wanted ? *reinterpret_cast<const uint4*>(from) : uint4{};
      if constexpr (kForm == Form::kSplit) {
        const std::uint32_t parts[4] = {words.x, words.y, words.z, words.w};
        const auto split = [&](int e) { return SplitValue(static_cast<double>(__uint_as_float(parts[e])), factor); };
        const SplitValue a = split(0), b = split(1), c = split(2), e = split(3);
        auto* const row = static_cast<__half*>(out) + to * 2 * pitch;
        *reinterpret_cast<uint2*>(row + d) = uint2{pair_of(a.high, b.high), pair_of(c.high, e.high)};
        *reinterpret_cast<uint2*>(row + pitch + d) = uint2{pair_of(a.low, b.low), pair_of(c.low, e.low)};
      } else {
        auto* const row = static_cast<std::byte*>(out) + (to * pitch + d) * kSizeOf<kType>;
        *reinterpret_cast<uint4*>(row) = words;
      }
    }
  } else {
    for (std::int64_t d = threadIdx.x % kLanes; d < pitch; d += kLanes) {
      const bool wanted = exists && d < dim;
      const std::int64_t index = first + d * stride;
      if constexpr (kForm == Form::kBits16) {
        static_cast<std::uint16_t*>(out)[to * pitch + d] =
            wanted ? static_cast<const std::uint16_t*>(data)[index] : std::uint16_t{0};
      } else {
        const double x = wanted ? load_double(static_cast<std::int32_t>(kType), data, index) : 0.0;
        if constexpr (kForm == Form::kF32) {
          static_cast<float*>(out)[to * pitch + d] = static_cast<float>(x);
        } else {
          const SplitValue value(x, factor);
          __half* const row = static_cast<__half*>(out) + to * 2 * pitch;
          row[d] = value.high;
          row[pitch + d] = value.low;
        }
      }
    }
  }
}

template <DType kType, Form kForm>
cudaError_t launch_form(const Batch& batch, const Operands& operands, RowStorage storage, cudaStream_t stream) {
  const std::int64_t rows = batch.count * (batch.most_rows + batch.keys);
  const bool words = storage == RowStorage::kWords;
  const cudaLaunchConfig_t config =
      launch_config(blocks_for(rows * (words ? kWordLanes : 32), kThreads), kThreads, stream);
  return words ? cudaLaunchKernelEx(&config, prepare_operands_kernel<kType, kForm, kWordLanes>, batch, operands)
               : cudaLaunchKernelEx(&config, prepare_operands_kernel<kType, kForm, 32>, batch, operands);
}

}  // namespace

cudaError_t launch_prepare_operands(const Batch& batch, const Operands& operands, RowStorage storage,
                                    cudaStream_t stream) {
  if (operands.dtype != batch.dtype || operands.pitch < batch.head_dim || operands.pitch % 16 != 0) {
    return cudaErrorInvalidValue;
  }
  if (batch.count == 0) return cudaSuccess;
  switch (static_cast<DType>(operands.dtype)) {
    case DType::kF32:
      return operands.split ? launch_form<DType::kF32, Form::kSplit>(batch, operands, storage, stream)
                            : launch_form<DType::kF32, Form::kF32>(batch, operands, storage, stream);
    case DType::kF16:
    case DType::kBF16: return launch_form<DType::kF16, Form::kBits16>(batch, operands, storage, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace ag::cuda
