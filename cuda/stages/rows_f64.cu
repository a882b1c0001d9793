// SPDX-License-Identifier: Apache-2.0
// The score pass in double: two sweeps over the keys, the second against the final cut. Reads the tensors as given.
#include "../device/launch.hpp"
#include "candidates.cuh"
#include "chunk_place.cuh"
#include "score_f64.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr std::int64_t kMostBlocks = 1024;  // more than any device runs at a time

// A block kTileRows queries of one head, a warp each; a lane takes the keys whose number is its own modulo 32, so that
// what a row yields does not depend on the rows around it.
template <DType kType>
__device__ __forceinline__ void do_rows(const Batch& batch, const ChunkPlace& at, const RowStates& states,
                                        const Candidates& candidates, TileMemory<double, 32>& s_tile) {
  const Chunk& chunk = batch.chunks[at.chunk];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t blocks_per_head = (chunk.queries + kTileRows - 1) / kTileRows;
  const std::int64_t g = at.unit / blocks_per_head;
  if (g >= chunk.heads) return;
  const std::int64_t head = chunk.head_ids[g];
  const std::int64_t first = chunk.query_begin + at.unit % blocks_per_head * kTileRows;
  const std::int64_t end = chunk.query_begin + chunk.queries;
  const std::int64_t i = first + warp;
  const std::int64_t local = i < end ? g * chunk.queries + (i - chunk.query_begin) : 0;
  const std::int64_t row = chunk.first_row + local;
  const std::int64_t last = (first + kTileRows < end ? first + kTileRows : end) - 1;
  const std::int64_t key_begin = key_range(chunk.mask, first).begin, key_end = key_range(chunk.mask, last).end;

  const double norm = chunk.norm_of(local);
  DeviceKeyRange range{0, 0};
  if (i < end && norm == norm) range = key_range(chunk.mask, i);
  double given = 0;
  if (i < end && chunk.given_logsumexp != nullptr) {
    given = chunk.given_logsumexp[local];
    if (fabs(given) == infinity_f64()) range = {0, 0};
  }
  load_tile_queries<kType>(chunk, head, first, end, s_tile);

  const auto tile_score = [&](std::int64_t first_key) {
    const double dot = tile_dot<kType>(chunk, first_key, key_begin, key_end, lane, s_tile);
    const std::int64_t j = first_key + lane;
    if (j < range.begin || j >= range.end) return -infinity_f64();
    const double bias = pair_bias(chunk.mask, head, i, j);
    return bias == -infinity_f64() ? bias : score_of(chunk, dot, bias);
  };

  double reference = -infinity_f64(), sum = 0, weighted = 0;  // the last two are of this lane
  std::int64_t max_key = -1;
  for (std::int64_t first_key = key_begin / 32 * 32; first_key < key_end; first_key += 32) {
    const double score = tile_score(first_key);
    const double tile_maximum = warp_max(score);
    if (tile_maximum > reference) {
      max_key = first_key + __ffs(static_cast<int>(__ballot_sync(kAllLanes, score == tile_maximum))) - 1;
      const double shift = reference - tile_maximum;  // -inf at first
      const double factor = exp(shift);
      weighted = factor > 0 ? factor * fma(shift, sum, weighted) : 0.0;
      sum *= factor;
      reference = tile_maximum;
    }
    if (score > -infinity_f64()) {
      const double weight = exp(score - reference);
      sum += weight;
      weighted = fma(weight, score - reference, weighted);
    }
  }
  sum = warp_sum(sum);
  weighted = warp_sum(weighted);

  double rest = 0;
  if (max_key >= 0) {
    if (chunk.given_logsumexp != nullptr) {
      rest = given - reference;
    } else {
      rest = log(sum);
      if (chunk.sink != nullptr) rest = log_add(rest, chunk.sink[g] - reference);
    }
  }
  const double room = batch.facts[at.chunk].band_f64.band(norm) * (1 + 0x1p-22);
  const CandidateRow place = candidate_row(candidates, row);
  std::int64_t count = 0;
  for (std::int64_t first_key = key_begin / 32 * 32; first_key < key_end; first_key += 32) {
    const double score = tile_score(first_key);
    const bool wanted = score > -infinity_f64() && ((score - reference) - rest) - chunk.log_threshold >= -room;
    const unsigned found = __ballot_sync(kAllLanes, wanted);
    const std::int64_t n = count + __popc(found & lanes_below(lane));
    if (wanted && n < place.capacity) {
      candidates.keys[place.begin + n] = static_cast<std::int32_t>(first_key + lane);
      candidates.scores[place.begin + n] = static_cast<float>(score * kLog2E);
    }
    count += __popc(found);
  }
  if (lane != 0 || i >= end) return;
  candidates.count[row] = static_cast<std::int32_t>(count);
  states.reference[row] = max_key >= 0 ? reference : 0.0;
  states.sum[row] = sum;
  states.max_key[row] = static_cast<std::int32_t>(max_key);
  if (states.weighted != nullptr) states.weighted[row] = weighted;
}

// Most batches have no chunk that needs this: then the blocks of one wave look at the chunks and are done.
template <DType kType>
__global__ void __launch_bounds__(kTileThreads)
    rows_f64_kernel(Batch batch, std::int64_t blocks_per_chunk, RowStates states, Candidates candidates) {
  ATTNGRAPH_SHARED(s_tile, TileMemory<double, 32>);
  for (std::int32_t first = 0; first < batch.count; first += 32) {
    const std::int32_t own = first + static_cast<std::int32_t>(threadIdx.x % 32);
    unsigned in_double = __ballot_sync(kAllLanes, own < batch.count && batch.facts[own].in_double());
    for (; in_double != 0; in_double &= in_double - 1) {
      const std::int64_t chunk = first + __ffs(static_cast<int>(in_double)) - 1;
      for (std::int64_t n = blockIdx.x; n < blocks_per_chunk; n += gridDim.x) {
        do_rows<kType>(batch, ChunkPlace(chunk * blocks_per_chunk + n, blocks_per_chunk), states, candidates, s_tile);
        __syncthreads();
      }
    }
  }
}

}  // namespace

cudaError_t launch_rows_f64(const Batch& batch, const RowStates& states, const Candidates& candidates,
                            cudaStream_t stream) {
  if (batch.head_dim > kMaxDims) return cudaErrorInvalidValue;
  if (batch.rows == 0) return cudaSuccess;
  const std::int64_t blocks_per_chunk = batch.most_heads * blocks_for(batch.most_queries, kTileRows);
  const cudaLaunchConfig_t config =
      launch_config(blocks_per_chunk < kMostBlocks ? blocks_per_chunk : kMostBlocks, kTileThreads, stream);
  return with_float_dtype(batch.dtype, [&](auto type) {
    return cudaLaunchKernelEx(&config, rows_f64_kernel<decltype(type)::value>, batch, blocks_per_chunk, states,
                              candidates);
  });
}

}  // namespace ag::cuda
