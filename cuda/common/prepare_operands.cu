// SPDX-License-Identifier: Apache-2.0
// Rows of any strides as contiguous rows, padded with zeros, in the form that the score passes take.
#include <cuda_fp16.h>

#include "launch.hpp"
#include "mask.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

enum class Form { kBits16, kSplit, kF32 };

// A warp a row. Rows that hold NaN or infinity keep them: their scores are masked.
template <DType kType, Form kForm>
__global__ void __launch_bounds__(kThreads)
    prepare_operands_kernel(AnyTensor rows, const std::int64_t* head_ids, std::int64_t heads, std::int64_t first_row,
                            std::int64_t count, std::int64_t dim, std::int64_t pitch, double factor, void* out) {
  const std::int64_t r = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (r >= heads * count) return;
  const std::int64_t g = r / count;
  const std::int64_t head = head_ids != nullptr ? head_ids[g] : 0;
  const std::int64_t first = element_offset(rows, head, first_row + r % count, 0);

  for (std::int64_t d = threadIdx.x % 32; d < pitch; d += 32) {
    const std::int64_t index = first + d * rows.stride_column;
    if constexpr (kForm == Form::kBits16) {
      static_cast<std::uint16_t*>(out)[r * pitch + d] =
          d < dim ? static_cast<const std::uint16_t*>(rows.data)[index] : std::uint16_t{0};
    } else {
      const double x = d < dim ? load_double(static_cast<std::int32_t>(kType), rows.data, index) : 0.0;
      if constexpr (kForm == Form::kF32) {
        static_cast<float*>(out)[r * pitch + d] = static_cast<float>(x);
      } else {
        // Below 2^10 in size, so exact in float unless it is below 2^-126, where it is nothing to the row's length.
        const float scaled = static_cast<float>(x * factor);
        const __half high = __float2half_rn(scaled);
        const __half low = __float2half_rn(scaled - __half2float(high));
        __half* const row = static_cast<__half*>(out) + r * 2 * pitch;
        row[d] = high;
        row[pitch + d] = low;
      }
    }
  }
}

struct Request {
  AnyTensor rows;
  const std::int64_t* d_head_ids;
  std::int64_t heads, first_row, count, dim, pitch;
  double factor;
  void* d_out;
};

template <DType kType, Form kForm>
cudaError_t launch_form(const Request& r, cudaStream_t stream) {
  const cudaLaunchConfig_t config = launch_config(blocks_for(r.heads * r.count * 32, kThreads), kThreads, stream);
  return cudaLaunchKernelEx(&config, prepare_operands_kernel<kType, kForm>, r.rows, r.d_head_ids, r.heads, r.first_row,
                            r.count, r.dim, r.pitch, r.factor, r.d_out);
}

}  // namespace

cudaError_t launch_prepare_operands(AnyTensor rows, const std::int64_t* d_head_ids, std::int64_t heads,
                                    std::int64_t first_row, std::int64_t count, std::int64_t dim, std::int32_t dtype,
                                    std::int64_t pitch, std::int32_t exponent, void* d_out, cudaStream_t stream) {
  if (dtype != rows.dtype || pitch < dim || pitch % 16 != 0) return cudaErrorInvalidValue;
  if (exponent < -1022 || exponent > 1023) return cudaErrorInvalidValue;  // 2^exponent has to be a double
  if (heads <= 0 || count <= 0) return cudaSuccess;
  const Request request{rows, d_head_ids, heads, first_row, count, dim, pitch, std::ldexp(1.0, exponent), d_out};
  switch (static_cast<DType>(dtype)) {
    case DType::kF32: return launch_form<DType::kF32, Form::kSplit>(request, stream);
    case DType::kF16:
    case DType::kBF16: return launch_form<DType::kF16, Form::kBits16>(request, stream);
    default: return cudaErrorInvalidValue;
  }
}

cudaError_t launch_prepare_f32(AnyTensor rows, const std::int64_t* d_head_ids, std::int64_t heads,
                               std::int64_t first_row, std::int64_t count, std::int64_t dim, std::int64_t pitch,
                               float* d_out, cudaStream_t stream) {
  if (pitch < dim) return cudaErrorInvalidValue;
  if (heads <= 0 || count <= 0) return cudaSuccess;
  const Request request{rows, d_head_ids, heads, first_row, count, dim, pitch, 1.0, d_out};
  switch (static_cast<DType>(rows.dtype)) {
    case DType::kF32: return launch_form<DType::kF32, Form::kF32>(request, stream);
    case DType::kF16: return launch_form<DType::kF16, Form::kF32>(request, stream);
    case DType::kBF16: return launch_form<DType::kBF16, Form::kF32>(request, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace ag::cuda
