// SPDX-License-Identifier: Apache-2.0
// The kernel of sm_90a, in two passes: statistics of rows, with the sums of their entropy when that is asked for, then
// products again and a comparison with the final cut. One block stays on each multiprocessor and takes items until
// there are none.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include "../device/launch.hpp"
#include "instances.hpp"
#include "lane_edges.cuh"
#include "lane_sums.cuh"
#include "pipeline.cuh"

namespace ag::cuda {

enum class WgmmaPass { kStatistics, kEdges, kEntropy };

// A warp of those that multiply.
template <class S, WgmmaPass kPass>
__device__ __forceinline__ void use_items(const WgmmaArguments& a, const BlockMemory<S>& memory, int warp) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = warp / 4;
  const std::uint32_t all_keys = operand_low(memory.keys);
  RingPlace<S::kQueryStages> query;
  RingPlace<S::kKeyStages> key;
  float scores[64];
#pragma unroll
  for (float& score : scores) score = 0.0f;

  mbarrier_wait(memory.query_full, 0);
  int number = uniform(memory.items[0]);
  // setmaxnreg is honoured only where the branch of a role is bare: a return before the loop, a break at its end.
  if (number < 0) return;
#pragma unroll 1
  for (;;) {
    WgmmaItem item;
    open_item<S>(a, number, item);
    const int first_tile = uniform(item.first_tile), tiles = uniform(item.tiles);
    const Chunk& chunk = a.batch.chunks[item.chunk];
    const int group_row = item.first_row + group * S::kGroupRows;
    const LaneRows rows = lane_rows(a, item, group_row + warp % 4 * 16);
    // Tiles that no row of the warpgroup sees are let go untouched.
    const int group_last = static_cast<int>(least(std::int64_t{group_row + S::kGroupRows}, chunk.rows())) - 1;
    const DeviceKeyRange seen =
        group_row <= group_last ? rows_range(chunk, group_row, group_last) : DeviceKeyRange{0, 0};
    const int seen_begin = uniform(static_cast<int>(seen.begin)), seen_end = uniform(static_cast<int>(seen.end));
    const float unit = a.batch.facts[item.chunk].units.unit;
    const std::uint32_t my_query = static_cast<std::uint32_t>(uniform(
        static_cast<int>(operand_low(memory.queries + query.stage * S::kQueryBytes + group * S::kGroupQueryBytes))));

    const auto let_go = [&] {
      __syncwarp();
      if (lane == 0) mbarrier_arrive(memory.key_empty + 8 * key.stage);
      key.advance();
    };
    const auto each_tile = [&](auto&& use) {
#pragma unroll 1
      for (int t = 0; t < tiles; ++t) {
        mbarrier_wait(memory.key_full + 8 * key.stage, key.parity);
        const int first_key = (first_tile + t) * S::kKeys;
        if (first_key >= seen_end || first_key + S::kKeys <= seen_begin) {
          let_go();
          continue;
        }
        multiply_tile<S>(scores, my_query, all_keys + key.stage * (S::kKeyBytes / 16));
        let_go();
        if (first_key >= rows.any_end || first_key + S::kKeys <= rows.any_begin) continue;
        if (first_key < rows.all_begin || first_key + S::kKeys > rows.all_end) mask_tile(rows, first_key, scores);
        use(first_key);
      }
      __syncwarp();
      if (lane == 0) mbarrier_arrive(memory.query_empty + 8 * query.stage);
      query.advance();
    };
    if constexpr (kPass != WgmmaPass::kEdges) {
      LaneSums<kPass == WgmmaPass::kEntropy> sums(rows, unit);
      each_tile([&](int) { sums.add(scores); });
      sums.write(a, rows);
    } else {
      LaneEdges edges(a, rows);
      each_tile([&](int first_key) { edges.add(a, scores, first_key); });
      edges.finish(a, rows);
    }
    mbarrier_wait(memory.query_full + 8 * query.stage, query.parity);
    number = uniform(memory.items[query.stage]);
    if (number < 0) break;
  }
}

template <class S, WgmmaPass kPass>
__global__ void __launch_bounds__(S::kThreads, 1)
    wgmma_kernel(const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap k_map,
                 const __grid_constant__ WgmmaArguments a) {
  ATTNGRAPH_DYNAMIC_SHARED(shared);
  const BlockMemory<S> memory(shared);
  if (threadIdx.x == 0) memory.init_barriers();
  __syncthreads();
  const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
  if (warp >= 4 * S::kGroups) {
    keep_registers<S::kProducerRegisters>();
    if (warp == 4 * S::kGroups) load_items<S>(a, &q_map, &k_map, memory);
  } else {
    take_registers<S::kConsumerRegisters>();
    use_items<S, kPass>(a, memory, warp);
  }
}

template <class S, WgmmaPass kPass>
cudaError_t launch_wgmma(const WgmmaLaunch& launch, cudaStream_t stream) {
  const WgmmaArguments& a = launch.arguments;
  if (a.items == 0) return cudaSuccess;
  const auto kernel = wgmma_kernel<S, kPass>;
  const cudaError_t allowed = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (allowed != cudaSuccess) return allowed;
  const std::int64_t blocks = a.items < launch.multiprocessors ? a.items : launch.multiprocessors;
  const cudaLaunchConfig_t config = launch_config(blocks, S::kThreads, stream, S::kSharedBytes);
  return cudaLaunchKernelEx(&config, kernel, launch.q_map, launch.k_map, a);
}

}  // namespace ag::cuda
