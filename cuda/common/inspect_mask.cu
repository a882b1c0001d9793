// SPDX-License-Identifier: Apache-2.0
// Where an additive mask holds what no mask may hold: NaN or +inf.
#include "launch.hpp"
#include "mask.cuh"
#include "stages.hpp"
#include "warp.cuh"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ double mask_value(const Chunk& chunk, std::int64_t row, std::int64_t key) {
  const std::int64_t head = chunk.head_ids[row / chunk.queries];
  const std::int64_t i = chunk.query_begin + row % chunk.queries;
  return load_double(chunk.mask.tensor.dtype, chunk.mask.tensor.data, element_offset(chunk.mask.tensor, head, i, key));
}

// A block a row.
__global__ void __launch_bounds__(kThreads)
    inspect_mask_kernel(Chunk chunk, const std::uint8_t* unusable, DeviceFault* fault) {
  const std::int64_t row = blockIdx.x;
  if (unusable != nullptr && unusable[row] != 0) return;
  const DeviceKeyRange range = key_range(chunk.mask, chunk.query_begin + row % chunk.queries);
  for (std::int64_t j = range.begin + threadIdx.x; j < range.end; j += kThreads) {
    if (mask_value(chunk, row, j) < infinity_f64()) continue;
    atomicMax(&fault->inverse_place, ~static_cast<unsigned long long>(row * chunk.keys + j));
    break;  // this thread's later keys are later faults
  }
}

__global__ void describe_mask_fault_kernel(Chunk chunk, DeviceFault* fault) {
  if (fault->inverse_place == 0) return;
  const auto place = static_cast<std::int64_t>(~fault->inverse_place);
  fault->value = mask_value(chunk, place / chunk.keys, place % chunk.keys);
}

}  // namespace

cudaError_t launch_inspect_mask(const Chunk& chunk, const RowFacts& facts, DeviceFault* d_fault, cudaStream_t stream) {
  const cudaError_t cleared = cudaMemsetAsync(d_fault, 0, sizeof(DeviceFault), stream);
  if (cleared != cudaSuccess) return cleared;
  const AnyTensor& tensor = chunk.mask.tensor;
  if (tensor.data == nullptr || !is_float(static_cast<DType>(tensor.dtype))) return cudaSuccess;
  // A mask that all heads share shows its first fault in the first head, unless that head's query is unusable.
  const bool shared = tensor.stride_head == 0 && facts.unusable == nullptr;
  const std::int64_t rows = shared ? chunk.queries : chunk.rows();
  if (rows == 0 || chunk.heads == 0 || chunk.keys == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(rows, kThreads, stream);
  const cudaError_t launched = cudaLaunchKernelEx(&config, inspect_mask_kernel, chunk, facts.unusable, d_fault);
  if (launched != cudaSuccess) return launched;
  const cudaLaunchConfig_t one = launch_config(1, 1, stream);
  return cudaLaunchKernelEx(&one, describe_mask_fault_kernel, chunk, d_fault);
}

}  // namespace ag::cuda
