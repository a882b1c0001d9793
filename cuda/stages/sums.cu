// SPDX-License-Identifier: Apache-2.0
// Weights of all allowed pairs, added up by key and by distance. Every sum belongs to one block, whose warps take turns
// with the queries: no atomics, the same bits every time.
#include <type_traits>

#include "../device/launch.hpp"
#include "chunk_place.cuh"
#include "score_f64.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

// The weight of pair (i, j) from its dot product; 0 for a masked pair, a query past the end or one without keys.
__device__ __forceinline__ double weight_of(const Chunk& chunk, const RowStates& states, std::int64_t g,
                                            std::int64_t head, std::int64_t i, std::int64_t j, double dot) {
  if (i >= chunk.query_begin + chunk.queries) return 0;
  const std::int64_t row = chunk.first_row + g * chunk.queries + (i - chunk.query_begin);
  if (states.max_key[row] < 0) return 0;
  const DeviceKeyRange range = key_range(chunk.mask, i);
  if (j < range.begin || j >= range.end) return 0;
  const double bias = pair_bias(chunk.mask, head, i, j);
  if (bias == -infinity_f64()) return 0;
  return exp((score_of(chunk, dot, bias) - states.reference[row]) - states.sum[row]);
}

// Adds the block's sums, one of each warp and lane, to out[lane] for the lanes below `count`.
__device__ __forceinline__ void add_block_sums(double sum, double (&s_sums)[kTileRows][32], std::int64_t count,
                                               double* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  s_sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || lane >= count) return;
  double total = 0;
  for (int w = 0; w < kTileRows; ++w) total += s_sums[w][lane];
  out[lane] += total;
}

// A block 32 keys of one head, a lane each.
template <DType kType, class Real>
__global__ void __launch_bounds__(kTileThreads) received_kernel(Batch batch, RowStates states, double* received) {
  ATTNGRAPH_SHARED(s_tile, TileMemory<Real, 32>);
  ATTNGRAPH_SHARED(s_sums, double[kTileRows][32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t blocks_per_head = (batch.keys + 31) / 32;
  const ChunkPlace at(blockIdx.x, batch.most_heads * blocks_per_head);
  const Chunk& chunk = batch.chunks[at.chunk];
  const std::int64_t g = at.unit / blocks_per_head;
  if (g >= chunk.heads || batch.facts[at.chunk].in_double() != std::is_same_v<Real, double>) return;
  const std::int64_t head = chunk.head_ids[g];
  const std::int64_t first_key = at.unit % blocks_per_head * 32;
  const std::int64_t end = chunk.query_begin + chunk.queries;
  double sum = 0;
  for (std::int64_t first = chunk.query_begin; first < end; first += kTileRows) {
    const std::int64_t last = (first + kTileRows < end ? first + kTileRows : end) - 1;
    const std::int64_t key_begin = key_range(chunk.mask, first).begin, key_end = key_range(chunk.mask, last).end;
    if (first_key >= key_end || first_key + 32 <= key_begin) continue;
    load_tile_queries<kType>(chunk, head, first, end, s_tile);
    const Real dot = tile_dot<kType>(chunk, first_key, key_begin, key_end, lane, s_tile);
    sum += weight_of(chunk, states, g, head, first + warp, first_key + lane, static_cast<double>(dot));
  }
  const std::int64_t count = chunk.keys - first_key;
  add_block_sums(sum, s_sums, count, received + (chunk.first_head + g) * chunk.keys + first_key);
}

// A block 32 distances of one head, a lane each: along them the keys move with the queries.
template <DType kType, class Real>
__global__ void __launch_bounds__(kTileThreads) distances_kernel(Batch batch, RowStates states, DeviceSums sums) {
  constexpr int kWindow = 32 + kTileRows - 1;
  ATTNGRAPH_SHARED(s_tile, TileMemory<Real, kWindow>);
  ATTNGRAPH_SHARED(s_sums, double[kTileRows][32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const ChunkPlace at(blockIdx.x, batch.most_heads * ((batch.most_queries + batch.keys - 1 + 31) / 32));
  const Chunk& chunk = batch.chunks[at.chunk];
  if (batch.facts[at.chunk].in_double() != std::is_same_v<Real, double>) return;
  const std::int64_t end = chunk.query_begin + chunk.queries;
  // Distances that the chunk's pairs have: [smallest, smallest + possible).
  const std::int64_t smallest = chunk.query_begin + chunk.mask.query_offset - (chunk.keys - 1);
  const std::int64_t possible = chunk.queries + chunk.keys - 1;
  const std::int64_t blocks_per_head = (possible + 31) / 32;
  const std::int64_t g = at.unit / blocks_per_head;
  if (g >= chunk.heads) return;
  const std::int64_t head = chunk.head_ids[g];
  const std::int64_t first_distance = smallest + at.unit % blocks_per_head * 32;
  double sum = 0;
  for (std::int64_t first = chunk.query_begin; first < end; first += kTileRows) {
    const std::int64_t last = (first + kTileRows < end ? first + kTileRows : end) - 1;
    const std::int64_t key_begin = key_range(chunk.mask, first).begin, key_end = key_range(chunk.mask, last).end;
    const std::int64_t first_key = first + chunk.mask.query_offset - first_distance - 31;
    if (first_key >= key_end || first_key + kWindow <= key_begin) continue;
    load_tile_queries<kType>(chunk, head, first, end, s_tile);
    const int slot = warp + 31 - lane;
    const Real dot = tile_dot<kType>(chunk, first_key, key_begin, key_end, slot, s_tile);
    sum += weight_of(chunk, states, g, head, first + warp, first_key + slot, static_cast<double>(dot));
  }
  const std::int64_t begin = first_distance - sums.distance_begin;
  const std::int64_t count = smallest + possible - first_distance;
  add_block_sums(sum, s_sums, count, sums.distances + (chunk.first_head + g) * sums.distance_count + begin);
}

template <DType kType, class Real>
cudaError_t launch_both(const Batch& batch, const RowStates& states, const DeviceSums& sums, cudaStream_t stream) {
  cudaError_t code = cudaSuccess;
  const std::int64_t heads = batch.count * batch.most_heads;
  if (sums.received != nullptr) {
    const cudaLaunchConfig_t config = launch_config(heads * blocks_for(batch.keys, 32), kTileThreads, stream);
    code = cudaLaunchKernelEx(&config, received_kernel<kType, Real>, batch, states, sums.received);
  }
  if (code == cudaSuccess && sums.distances != nullptr) {
    const std::int64_t blocks = heads * blocks_for(batch.most_queries + batch.keys - 1, 32);
    const cudaLaunchConfig_t config = launch_config(blocks, kTileThreads, stream);
    code = cudaLaunchKernelEx(&config, distances_kernel<kType, Real>, batch, states, sums);
  }
  return code;
}

}  // namespace

cudaError_t launch_sums(const Batch& batch, const RowStates& states, const DeviceSums& sums, cudaStream_t stream) {
  if (batch.head_dim > kMaxDims) return cudaErrorInvalidValue;
  if (batch.rows == 0 || batch.keys == 0) return cudaSuccess;
  return with_float_dtype(batch.dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::value;
    cudaError_t code = launch_both<kType, double>(batch, states, sums, stream);  // chunks that are done in double
    if constexpr (kType != DType::kF64) {
      if (code == cudaSuccess) code = launch_both<kType, float>(batch, states, sums, stream);
    }
    return code;
  });
}

}  // namespace ag::cuda
