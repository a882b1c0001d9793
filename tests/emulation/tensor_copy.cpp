// SPDX-License-Identifier: Apache-2.0
// cp.async.bulk.tensor: boxes of a tensor into shared memory, completed on an mbarrier.
#include <algorithm>
#include <cstring>

#include "machine.hpp"
#include "ptx_program.hpp"

namespace ag::emu {
namespace {

std::size_t box_bytes(const TensorMap& map) {
  std::size_t bytes = map.element_bytes;
  for (int d = 0; d < map.rank; ++d) bytes *= map.box[d];
  return bytes;
}

// Rows of the box (its first dimension), those outside of the tensor zero. The swizzle moves each 16 bytes within 128
// by bits 7 to 9 of their shared address.
void fill(const Block& block, const TensorCopy& copy) {
  const TensorMap& map = copy.map;
  const std::size_t row_bytes = std::size_t{map.box[0]} * map.element_bytes;
  const std::size_t rows = box_bytes(map) / row_bytes;
  const std::uint32_t window = block.shared.window_address(copy.shared);
  for (std::size_t row = 0; row < rows; ++row) {
    bool inside = true;
    std::size_t offset = 0;
    std::size_t rest = row;
    for (int d = 1; d < map.rank; ++d) {
      const std::int64_t at = copy.place[d] + static_cast<std::int64_t>(rest % map.box[d]);
      rest /= map.box[d];
      inside = inside && at >= 0 && at < static_cast<std::int64_t>(map.sizes[d]);
      if (inside) offset += static_cast<std::size_t>(at) * map.stride_bytes[d - 1];
    }
    for (std::size_t byte = 0; byte < row_bytes; byte += map.element_bytes) {
      const std::int64_t column = copy.place[0] + static_cast<std::int64_t>(byte / map.element_bytes);
      std::size_t to = row * row_bytes + byte;
      if (map.swizzle_128 != 0) {
        const std::size_t address = window + to;
        to = (address ^ (address >> 7 & 7) << 4) - window;
      }
      if (inside && column >= 0 && column < static_cast<std::int64_t>(map.sizes[0])) {
        std::memcpy(copy.shared + to, map.data + offset + static_cast<std::size_t>(column) * map.element_bytes,
                    map.element_bytes);
      } else {
        std::memset(copy.shared + to, 0, map.element_bytes);
      }
    }
  }
}

void arrive(Block& block, const TensorCopy& copy) {
  fill(block, copy);
  const std::size_t bytes = box_bytes(copy.map);
  if (Hooks* const hooks = machine().hooks()) {
    hooks->proxy_arrived(copy.thread, copy.shared, bytes, copy.site);
    hooks->mbarrier_arrive(copy.thread, copy.mbarrier);
  }
  block.mbarriers.live.at(copy.mbarrier).bytes -= static_cast<std::int64_t>(bytes);
  end_mbarrier_phase(block, copy.mbarrier, copy.site);
}

void check_map(const TensorCopy& copy, std::size_t rank, Site site) {
  const TensorMap& map = copy.map;
  if (map.magic != TensorMap::kMagic) {
    fail_kernel(site, "the tensor map is none that cuTensorMapEncodeTiled has made");
  }
  if (map.rank != rank) {
    fail_kernel(site, "a place of " + std::to_string(rank) + " dimensions in a tensor of " + std::to_string(map.rank));
  }
  check_shared(copy.shared, box_bytes(map), 128, "cp.async.bulk.tensor", site);
  std::size_t bytes = map.sizes[0] * map.element_bytes;
  for (int d = 1; d < map.rank; ++d) bytes += (map.sizes[d] - 1) * map.stride_bytes[d - 1];
  const Memory::Allocation* const allocation = machine().allocation(map.data);
  if (allocation == nullptr) fail_kernel(site, "the tensor of the map is in no live allocation");
  if (bytes > allocation->bytes - static_cast<std::size_t>(map.data - allocation->begin)) {
    fail_kernel(site, "the map's tensor of " + std::to_string(bytes) + " bytes goes beyond its allocation of " +
                          std::to_string(allocation->bytes));
  }
}

}  // namespace

void deliver_tensor_copy(Block& block) {
  auto& queue = block.mbarriers.on_the_way;
  // They may overtake each other.
  const bool in_order = machine().grid_options().schedule == Schedule::kForward;
  const std::size_t which = in_order ? 0 : static_cast<std::size_t>(machine().random().below(queue.size()));
  const TensorCopy copy = queue[which];
  queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(which));
  machine().act_as(block.threads[copy.thread]);
  arrive(block, copy);
}

void execute_tensor_copy(const PtxCall& call) {
  need_capability("cp.async.bulk.tensor", 90, 999, call.site);
  Machine& m = machine();
  Thread& self = m.current();
  const std::size_t rank = call.items() - 3;
  TensorCopy copy;
  copy.shared = static_cast<std::byte*>(call.pointer(0));
  const void* const map = call.pointer(1);
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0) fail_kernel(call.site, "the tensor map's address is misaligned");
  std::memcpy(&copy.map, map, sizeof copy.map);
  for (std::size_t d = 0; d < rank; ++d) copy.place[d] = static_cast<std::int32_t>(call.immediate(2 + d));
  copy.mbarrier = call.pointer(2 + rank);
  copy.thread = self.identity.thread;
  copy.site = call.site;
  check_map(copy, rank, call.site);
  check_shared(copy.mbarrier, 8, 8, "cp.async.bulk.tensor, mbarrier", call.site);
  const auto found = self.block->mbarriers.live.find(copy.mbarrier);
  if (found == self.block->mbarriers.live.end()) fail_kernel(call.site, "the mbarrier has not been initialised");
  if (!found->second.proxy_knows) {
    fail_kernel(call.site,
                "the mbarrier has been initialised without a fence.mbarrier_init or fence.proxy.async by the same "
                "thread: the copy may not see it");
  }
  const std::size_t bytes = box_bytes(copy.map);
  ++live_counters().tensor_copies;
  live_counters().tensor_copy_bytes += bytes;
  if (Hooks* const hooks = m.hooks()) hooks->proxy_access(copy.thread, copy.shared, bytes, true, call.site);
  const Copies when = m.grid_options().copies;
  if (when == Copies::kEager || (when == Copies::kRandom && m.random().chance(0.5))) return arrive(*self.block, copy);
  std::memset(copy.shared, 0xff, bytes);
  self.block->mbarriers.on_the_way.push_back(copy);
}

}  // namespace ag::emu
