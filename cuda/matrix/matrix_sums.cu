// SPDX-License-Identifier: Apache-2.0
// Attention received per key and mass per distance, of a ready matrix: a thread sums one key's column, or one
// distance's diagonal, over the chunk's queries in order. Neighbours read neighbours, and no atomic orders the sum.
#include <cmath>

#include "../stages/mask.cuh"
#include "kernels.hpp"

namespace ag::cuda {
namespace {

constexpr int kBlockThreads = 128;

// kDistances: sums are of distances, else of keys.
template <bool kDistances>
__global__ void __launch_bounds__(kBlockThreads) matrix_sums_kernel(MatrixSums work) {
  const MatrixChunk& chunk = work.chunk;
  const std::int64_t size = kDistances ? work.distance_count : chunk.keys;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kBlockThreads + static_cast<int>(threadIdx.x);
  if (at >= chunk.heads * size) return;
  const std::int64_t g = at / size, n = at % size;
  const std::int64_t head = chunk.head_ids != nullptr ? chunk.head_ids[g] : 0;
  double* const sum = (kDistances ? work.distances : work.received) + at;
  double total = *sum;
  for (std::int64_t local = 0; local < chunk.queries; ++local) {
    const std::int64_t query = chunk.query_begin + local;
    const std::int64_t key = kDistances ? query + chunk.mask.query_offset - (work.distance_begin + n) : n;
    const DeviceKeyRange keys = key_range(chunk.mask, query);
    if (key < keys.begin || key >= keys.end || isinf(tensor_bias(chunk.mask, head, query, key))) continue;
    const double weight = load_double(
        chunk.weights.dtype, chunk.weights.data,
        g * chunk.weights.stride_head + local * chunk.weights.stride_row + key * chunk.weights.stride_column);
    if (isfinite(weight)) total += weight;
  }
  *sum = total;
}

template <bool kDistances>
cudaError_t launch(const MatrixSums& work, cudaStream_t stream) {
  const std::int64_t threads = work.chunk.heads * (kDistances ? work.distance_count : work.chunk.keys);
  if (threads == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((threads + kBlockThreads - 1) / kBlockThreads));
  config.blockDim = dim3(kBlockThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, matrix_sums_kernel<kDistances>, work);
}

}  // namespace

cudaError_t launch_matrix_sums(const MatrixSums& work, cudaStream_t stream) {
  if (work.chunk.queries == 0) return cudaSuccess;
  if (work.received != nullptr) {
    if (const cudaError_t code = launch<false>(work, stream); code != cudaSuccess) return code;
  }
  return work.distances != nullptr ? launch<true>(work, stream) : cudaSuccess;
}

}  // namespace ag::cuda
