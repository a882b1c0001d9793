// SPDX-License-Identifier: Apache-2.0
// cp.async and ldmatrix: what PTX does to memory.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "machine.hpp"
#include "ptx_program.hpp"

namespace ag::emu {
namespace {

bool aligned(const void* p, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

void check_global(const char* what, const void* p, std::size_t bytes, std::size_t alignment, Site site) {
  if (!aligned(p, alignment)) {
    fail_kernel(site, std::string(what) + ": the global address is not a multiple of " + std::to_string(alignment));
  }
  if (bytes == 0) return;
  const Memory::Allocation* const allocation = machine().allocation(p);
  if (allocation == nullptr) fail_kernel(site, std::string(what) + ": the global address is in no live allocation");
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(p) - allocation->begin);
  if (bytes > allocation->bytes - offset) {
    fail_kernel(site, std::string(what) + ": " + std::to_string(bytes) + " bytes at offset " + std::to_string(offset) +
                          " of an allocation of " + std::to_string(allocation->bytes) + " bytes");
  }
  if (!allocation->host && allocation->device != machine().config().device) {
    fail_kernel(site, std::string(what) + ": the global address belongs to device " +
                          std::to_string(allocation->device) + ", the kernel runs on device " +
                          std::to_string(machine().config().device));
  }
}

void arrive(const Thread& thread, const AsyncCopy& copy) {
  auto* const to = static_cast<std::byte*>(copy.shared);
  std::memcpy(to, copy.global, copy.read);
  std::memset(to + copy.read, 0, copy.bytes - copy.read);
  if (Hooks* const hooks = machine().hooks()) {
    hooks->copy_arrived(thread.identity.thread, copy.shared, copy.bytes, copy.site);
  }
}

void issue(const PtxCall& call, std::int64_t bytes, std::int64_t read) {
  if (bytes != 16 && (bytes != 4 && bytes != 8)) {
    fail_kernel(call.site,
                "cp.async of " + std::to_string(bytes) + " bytes; 4, 8 and 16 are possible, .cg takes 16 only");
  }
  if (bytes != 16 && std::strstr(call.step->opcode->name, ".cg.") != nullptr) {
    fail_kernel(call.site, "cp.async.cg takes 16 bytes only");
  }
  if (read > bytes) {
    fail_kernel(call.site, "cp.async reads " + std::to_string(read) + " of " + std::to_string(bytes) + " bytes");
  }
  const auto size = static_cast<std::size_t>(bytes);
  AsyncCopy copy{
      call.pointer(0), call.pointer(1), static_cast<std::uint32_t>(bytes), static_cast<std::uint32_t>(read), 0,
      call.site};
  check_shared(copy.shared, size, size, "cp.async", call.site);
  check_global("cp.async", copy.global, copy.read, size, call.site);
  ++live_counters().cp_async;
  live_counters().cp_async_bytes += copy.read;

  Machine& m = machine();
  Thread& thread = m.current();
  if (Hooks* const hooks = m.hooks()) {
    if (copy.read > 0) hooks->access(thread.identity.thread, copy.global, copy.read, false, false, call.site);
    hooks->copy_issued(thread.identity.thread, copy.shared, copy.bytes, call.site);
  }
  const Copies when = m.grid_options().copies;
  if (when == Copies::kEager || (when == Copies::kRandom && m.random().chance(0.5))) {
    arrive(thread, copy);
    return;
  }
  std::memset(copy.shared, 0xff, size);
  copy.group = thread.copy_group;
  thread.copies.push_back(copy);
}

// The bank conflicts of one phase: eight rows of 16 bytes through 32 banks of 4 bytes.
std::uint32_t extra_wavefronts(const std::array<const std::byte*, 8>& rows) {
  std::uint32_t worst = 1;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::uint32_t same = 0;
    for (std::size_t j = 0; j < rows.size(); ++j) {
      const bool same_banks =
          reinterpret_cast<std::uintptr_t>(rows[i]) / 16 % 8 == reinterpret_cast<std::uintptr_t>(rows[j]) / 16 % 8;
      // The same row, asked for twice, is one access.
      const bool first = std::find(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(j), rows[j]) ==
                         rows.begin() + static_cast<std::ptrdiff_t>(j);
      if (same_banks && first) ++same;
    }
    worst = std::max(worst, same);
  }
  return worst - 1;
}

void run_ldmatrix(Lanes& lanes, bool transposed) {
  const auto& first = *static_cast<const PtxCall*>(lanes.argument[0]);
  const std::size_t matrices = first.items() - 1;
  Hooks* const hooks = machine().hooks();
  ++live_counters().ldmatrix;
  for (std::size_t m = 0; m < matrices; ++m) {
    std::array<std::array<std::uint16_t, 8>, 8> matrix;
    std::array<const std::byte*, 8> rows;
    for (std::size_t row = 0; row < 8; ++row) {
      const std::size_t lane = m * 8 + row;
      const auto& call = *static_cast<const PtxCall*>(lanes.argument[lane]);
      rows[row] = static_cast<const std::byte*>(call.pointer(matrices));
      check_shared(rows[row], 16, 16, ("ldmatrix, lane " + std::to_string(lane)).c_str(), call.site);
      std::memcpy(matrix[row].data(), rows[row], 16);
      if (hooks != nullptr) {
        hooks->access(lanes.first_thread + static_cast<std::uint32_t>(lane), rows[row], 16, false, false, call.site);
      }
    }
    live_counters().ldmatrix_conflicts += extra_wavefronts(rows);
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const std::size_t row = lane / 4;
      const std::size_t column = lane % 4 * 2;
      const std::uint32_t low = transposed ? matrix[column][row] : matrix[row][column];
      const std::uint32_t high = transposed ? matrix[column + 1][row] : matrix[row][column + 1];
      static_cast<const PtxCall*>(lanes.argument[lane])->store(m, low | high << 16);
    }
  }
}

}  // namespace

void check_shared(const void* p, std::size_t bytes, std::size_t alignment, const char* what, Site site) {
  const Region region = machine().current().block->shared.find(p);
  if (region.bytes == 0) fail_kernel(site, std::string(what) + ": the address is not in the block's shared memory");
  if (!region.contains(p, bytes)) {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(p) - region.begin);
    fail_kernel(site, std::string(what) + ": " + std::to_string(bytes) + " bytes at offset " + std::to_string(offset) +
                          " of a shared array of " + std::to_string(region.bytes) + " bytes");
  }
  if (!aligned(p, alignment)) {
    fail_kernel(site, std::string(what) + ": the shared address is not a multiple of " + std::to_string(alignment) +
                          " (does the array's type promise that alignment?)");
  }
}

void finish_copies(Thread& thread, std::uint64_t pending) {
  std::size_t done = 0;
  while (done < thread.copies.size() && thread.copies[done].group + pending < thread.copy_group) {
    arrive(thread, thread.copies[done++]);
  }
  thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

void execute_cp_async(const PtxCall& call) { issue(call, call.immediate(2), call.immediate(2)); }
void execute_cp_async_zfill(const PtxCall& call) { issue(call, call.immediate(2), call.immediate(3)); }
void execute_cp_async_commit(const PtxCall&) { ++machine().current().copy_group; }
void execute_cp_async_wait(const PtxCall& call) {
  finish_copies(machine().current(), static_cast<std::uint64_t>(call.immediate(0)));
}
void execute_cp_async_wait_all(const PtxCall&) {
  ++machine().current().copy_group;  // it waits for copies that are in no group, too
  finish_copies(machine().current(), 0);
}

void execute_store_global(const PtxCall& call) {
  void* const to = call.pointer(0);
  check_global("st.global", to, 4, 4, call.site);
  const std::uint32_t value = call.bits(1);
  Machine& m = machine();
  if (Hooks* const hooks = m.hooks()) hooks->access(m.current().identity.thread, to, 4, true, false, call.site);
  std::memcpy(to, &value, 4);
}

// One lane of those that the warp has left: the lowest.
void execute_elect(const PtxCall& call) {
  static const Collective op{"elect.sync", [](Lanes& lanes) {
                               const auto lowest = static_cast<std::uint32_t>(std::countr_zero(lanes.arrived));
                               for (std::uint32_t lane = 0; lane < 32; ++lane) {
                                 if (!lanes.has(lane)) continue;
                                 const auto& each = *static_cast<const PtxCall*>(lanes.argument[lane]);
                                 each.store_wide(0, lowest);
                                 each.store_wide(1, lane == lowest ? 1 : 0);
                               }
                             }};
  PtxCall mine = call;
  arrive_collective(op, static_cast<std::uint32_t>(call.immediate(2)), &mine, call.step, call.site);
}

void execute_ldmatrix(const PtxCall& call) {
  static const Collective op{"ldmatrix", [](Lanes& lanes) { run_ldmatrix(lanes, false); }, true};
  PtxCall mine = call;
  arrive_collective(op, 0xffffffffu, &mine, call.step, call.site);
}

void execute_ldmatrix_transposed(const PtxCall& call) {
  static const Collective op{"ldmatrix.trans", [](Lanes& lanes) { run_ldmatrix(lanes, true); }, true};
  PtxCall mine = call;
  arrive_collective(op, 0xffffffffu, &mine, call.step, call.site);
}

}  // namespace ag::emu
