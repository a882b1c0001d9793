// SPDX-License-Identifier: Apache-2.0
// Elements of tensors of any type, and what a mask tensor does to a pair: ag::mask_bias on the device.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "../device/macros.cuh"
#include "core/dtype.hpp"
#include "key_range.hpp"
#include "work.hpp"

namespace ag::cuda {

inline constexpr double kLowestF64 = lowest_of(DType::kF64), kLowestF32 = lowest_of(DType::kF32);
inline constexpr double kLowestF16 = lowest_of(DType::kF16), kLowestBF16 = lowest_of(DType::kBF16);

// Bytes of an element, for kernels, which call no function of the host.
template <DType kType>
inline constexpr int kSizeOf = static_cast<int>(size_of(kType));

__device__ __forceinline__ float bf16_value(std::uint16_t bits) {
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
}

__device__ __forceinline__ float f16_value(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

// Exact value of element `index` of an array of any type that can hold scores, weights or a mask; of kBool 0 or 1.
__device__ __forceinline__ double load_double(std::int32_t dtype, const void* data, std::int64_t index) {
  switch (static_cast<DType>(dtype)) {
    case DType::kF64: return static_cast<const double*>(data)[index];
    case DType::kF32: return static_cast<double>(static_cast<const float*>(data)[index]);
    case DType::kF16: return static_cast<double>(f16_value(static_cast<const std::uint16_t*>(data)[index]));
    case DType::kBF16: return static_cast<double>(bf16_value(static_cast<const std::uint16_t*>(data)[index]));
    default: return static_cast<const std::uint8_t*>(data)[index] != 0 ? 1.0 : 0.0;
  }
}

// Elements from the start of the tensor to (head, row, column); head is a global index.
__device__ __forceinline__ std::int64_t element_offset(const AnyTensor& tensor, std::int64_t head, std::int64_t row,
                                                       std::int64_t column) {
  return head * tensor.stride_head + row * tensor.stride_row + column * tensor.stride_column;
}

// What one element of a mask tensor adds to the score, natural-log units: -inf when it masks the key.
__device__ __forceinline__ double mask_element_bias(const AnyTensor& tensor, std::int64_t head, std::int64_t i,
                                                    std::int64_t j) {
  const double minus_infinity = -__longlong_as_double(0x7FF0000000000000LL);
  const double value = load_double(tensor.dtype, tensor.data, element_offset(tensor, head, i, j));
  switch (static_cast<DType>(tensor.dtype)) {
    case DType::kF64: return value <= kLowestF64 ? minus_infinity : value;
    case DType::kF32: return value <= kLowestF32 ? minus_infinity : value;
    case DType::kF16: return value <= kLowestF16 ? minus_infinity : value;
    case DType::kBF16: return value <= kLowestBF16 ? minus_infinity : value;
    default: return value != 0.0 ? 0.0 : minus_infinity;
  }
}

// What the tensor adds to pair (i, j) with j inside key_range(mask, i), or 0; -inf when it or bad_keys mask the key.
__device__ __forceinline__ double tensor_bias(const MaskView& mask, std::int64_t head, std::int64_t i, std::int64_t j) {
  if (mask.bad_keys != nullptr && mask.bad_keys[j] != 0) return -__longlong_as_double(0x7FF0000000000000LL);
  return mask.tensor.data != nullptr ? mask_element_bias(mask.tensor, head, i, j) : 0.0;
}

// The pair's bias: that of the tensor and of the distance.
__device__ __forceinline__ double pair_bias(const MaskView& mask, std::int64_t head, std::int64_t i, std::int64_t j) {
  const double bias = tensor_bias(mask, head, i, j);
  if (mask.slopes == nullptr) return bias;
  // ag::alibi_bias, whose distances fit 32 bits: kernels in double have no register to spare.
  return fma(-mask.slopes[head], fabs(static_cast<double>(static_cast<std::int32_t>(i + mask.query_offset - j))), bias);
}

}  // namespace ag::cuda
