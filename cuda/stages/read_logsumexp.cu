// SPDX-License-Identifier: Apache-2.0
// Given logsumexps of any type as natural ones in double.
#include "../device/launch.hpp"
#include "chunk_place.cuh"
#include "mask.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;

// A thread a row.
__global__ void __launch_bounds__(kThreads) read_logsumexp_kernel(Batch batch, double unit, DeviceFault* fault) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= batch.count * batch.most_rows) return;
  const ChunkPlace at(n, batch.most_rows);
  const Chunk& chunk = batch.chunks[at.chunk];
  if (at.unit >= chunk.rows()) return;
  const std::int64_t g = at.unit / chunk.queries, i = chunk.query_begin + at.unit % chunk.queries;
  const AnyTensor& given = chunk.logsumexp;
  const double value = load_double(given.dtype, given.data, element_offset(given, chunk.head_ids[g], i, 0));
  chunk.given_logsumexp[at.unit] = value * unit;
  if (value == value) return;
  atomicMax(&fault->inverse_place, ~static_cast<unsigned long long>(chunk.first_row + at.unit));
}

}  // namespace

cudaError_t launch_read_logsumexp(const Batch& batch, double unit, DeviceFault* d_fault, cudaStream_t stream) {
  if (batch.rows == 0) return cudaSuccess;
  const cudaLaunchConfig_t config =
      launch_config(blocks_for(batch.count * batch.most_rows, kThreads), kThreads, stream);
  return cudaLaunchKernelEx(&config, read_logsumexp_kernel, batch, unit, d_fault);
}

}  // namespace ag::cuda
