// SPDX-License-Identifier: Apache-2.0
// Where an additive mask holds what no mask may hold: NaN or +inf.
#include "../device/launch.hpp"
#include "../device/warp.cuh"
#include "chunk_place.cuh"
#include "mask.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ double mask_value(const Chunk& chunk, std::int64_t row, std::int64_t key) {
  const std::int64_t head = chunk.head_ids[row / chunk.queries];
  const std::int64_t i = chunk.query_begin + row % chunk.queries;
  return load_double(chunk.mask.tensor.dtype, chunk.mask.tensor.data, element_offset(chunk.mask.tensor, head, i, key));
}

// A block a row. The place of a fault counts rows of the batch.
__global__ void __launch_bounds__(kThreads) inspect_mask_kernel(Batch batch, DeviceFault* fault) {
  const ChunkPlace at(blockIdx.x, batch.most_rows);
  const Chunk& chunk = batch.chunks[at.chunk];
  if (at.unit >= chunk.rows() || !(chunk.norm_of(at.unit) >= 0)) return;
  // A mask that all heads share shows its first fault in the first head, unless a query is unusable there.
  if (chunk.mask.tensor.stride_head == 0 && at.unit >= chunk.queries && batch.facts[at.chunk].bad_queries == 0) return;
  const DeviceKeyRange range = key_range(chunk.mask, chunk.query_begin + at.unit % chunk.queries);
  for (std::int64_t j = range.begin + threadIdx.x; j < range.end; j += kThreads) {
    if (mask_value(chunk, at.unit, j) < infinity_f64()) continue;
    const std::int64_t place = (chunk.first_row + at.unit) * batch.keys + j;
    atomicMax(&fault->inverse_place, ~static_cast<unsigned long long>(place));
    break;  // this thread's later keys are later faults
  }
}

__global__ void describe_mask_fault_kernel(Batch batch, DeviceFault* fault) {
  if (fault->inverse_place == 0) return;
  const auto place = static_cast<std::int64_t>(~fault->inverse_place);
  const Chunk& chunk = batch.chunks[chunk_of_row(batch, place / batch.keys)];
  fault->value = mask_value(chunk, place / batch.keys - chunk.first_row, place % batch.keys);
}

}  // namespace

cudaError_t launch_inspect_mask(const Batch& batch, DeviceFault* d_fault, cudaStream_t stream) {
  if (batch.rows == 0 || batch.most_keys == 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(batch.count * batch.most_rows, kThreads, stream);
  const cudaError_t launched = cudaLaunchKernelEx(&config, inspect_mask_kernel, batch, d_fault);
  if (launched != cudaSuccess) return launched;
  const cudaLaunchConfig_t one = launch_config(1, 1, stream);
  return cudaLaunchKernelEx(&one, describe_mask_fault_kernel, batch, d_fault);
}

}  // namespace ag::cuda
