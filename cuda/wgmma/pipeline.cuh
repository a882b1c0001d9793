// SPDX-License-Identifier: Apache-2.0
// Shared memory of a block as rings of stages, and the warp that fills them.
#pragma once

#include <cuda.h>

#include "products.cuh"

namespace ag::cuda {

// Where a ring of stages stands: the parity says which round. Full barriers are waited for by consumers with it, empty
// ones by the producer with its opposite.
template <int kStages>
struct RingPlace {
  std::uint32_t stage = 0, parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <class S>
struct BlockMemory {
  std::uint32_t queries, keys;                                 // shared addresses
  std::uint32_t query_full, query_empty, key_full, key_empty;  // mbarriers, 8 bytes for each stage
  volatile int* items;                                         // of the query stages: numbers, -1: there are no more

  __device__ __forceinline__ explicit BlockMemory(unsigned char* shared) {
    const std::uint32_t start = shared_address(shared), base = (start + 1023) & ~1023u;
    queries = base;
    keys = base + S::kKeysAt;
    query_full = base + S::kBarriersAt;
    query_empty = query_full + 8 * S::kQueryStages;
    key_full = query_empty + 8 * S::kQueryStages;
    key_empty = key_full + 8 * S::kKeyStages;
    items = reinterpret_cast<volatile int*>(shared + (base - start) + S::kItemsAt);
  }

  // One thread; a barrier of the block comes after.
  __device__ __forceinline__ void init_barriers() const {
    for (int s = 0; s < S::kQueryStages; ++s) {
      mbarrier_init(query_full + 8 * s, 1);
      mbarrier_init(query_empty + 8 * s, 4 * S::kGroups);
    }
    for (int s = 0; s < S::kKeyStages; ++s) {
      mbarrier_init(key_full + 8 * s, 1);
      mbarrier_init(key_empty + 8 * s, 4 * S::kGroups);
    }
    fence_mbarrier_init();
  }
};

// A warp whose first lane copies: an item's queries, its tiles of keys in ascending order, the next item.
template <class S>
__device__ __forceinline__ void load_items(const WgmmaArguments& a, const CUtensorMap* q_map, const CUtensorMap* k_map,
                                           const BlockMemory<S>& memory) {
  const bool leader = threadIdx.x % 32 == 0;
  RingPlace<S::kQueryStages> query;
  RingPlace<S::kKeyStages> key;
  int number = static_cast<int>(blockIdx.x);
#pragma unroll 1
  for (;;) {
    int following = 0;
    if (leader) following = atomicAdd(a.next_item, 1) + static_cast<int>(gridDim.x);
    const bool more = number < a.items;
    WgmmaItem item;
    const bool work = more && open_item<S>(a, number, item);
    if (work || !more) {
      mbarrier_wait(memory.query_empty + 8 * query.stage, query.parity ^ 1);
      if (leader) memory.items[query.stage] = more ? number : -1;
      if (!more) {
        if (leader) mbarrier_arrive(memory.query_full + 8 * query.stage);
        return;
      }
      if (leader) {
        const std::uint32_t full = memory.query_full + 8 * query.stage;
        const std::uint32_t to = memory.queries + query.stage * S::kQueryBytes;
        const int row = static_cast<int>(a.batch.chunks[item.chunk].first_row) + item.first_row;
        mbarrier_arrive_expect(full, S::kQueryBytes);
        for (int g = 0; g < S::kGroups; ++g) {
          for (int p = 0; p < S::kPanels; ++p) {
            copy_box(to + g * S::kGroupQueryBytes + p * S::kQueryPanelBytes, q_map,
                     S::kSplit ? 0 : p * S::kPanelColumns, S::kSplit ? p : 0, row + g * S::kGroupRows, full);
          }
        }
      }
      query.advance();
#pragma unroll 1
      for (int t = 0; t < item.tiles; ++t) {
        mbarrier_wait(memory.key_empty + 8 * key.stage, key.parity ^ 1);
        if (leader) {
          const std::uint32_t full = memory.key_full + 8 * key.stage;
          const std::uint32_t to = memory.keys + key.stage * S::kKeyBytes;
          mbarrier_arrive_expect(full, S::kKeyBytes);
          for (int p = 0; p < S::kPanels; ++p) {
            copy_box(to + p * S::kKeyPanelBytes, k_map, S::kSplit ? 0 : p * S::kPanelColumns, S::kSplit ? p : 0,
                     (item.first_tile + t) * S::kKeys, item.chunk, full);
          }
        }
        key.advance();
      }
    }
    number = __shfl_sync(kAllLanes, following, 0);
  }
}

}  // namespace ag::cuda
