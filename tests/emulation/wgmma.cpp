// SPDX-License-Identifier: Apache-2.0
// wgmma: products of a warpgroup whose operands lie in shared memory, and setmaxnreg. A warp does its quarter, 16 of
// the 64 rows, when it waits or when it commits (Options::copies): between the two anything may happen on a device.
#include "wgmma.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "machine.hpp"
#include "numbers.hpp"
#include "ptx_program.hpp"
#include "tensor_core.hpp"

namespace ag::emu {
namespace {

constexpr std::uint32_t kDepth = 16;
constexpr float kGivenAway = std::numeric_limits<float>::quiet_NaN();

// A K-major operand in rows of 128 bytes under the 128-byte swizzle: groups of eight rows `stride` bytes apart.
struct Matrix {
  std::uint32_t start = 0;  // window address of row 0
  std::uint32_t stride = 0;
};

Matrix decode(std::uint64_t descriptor, Site site) {
  const auto field = [descriptor](int from, int bits) {
    return static_cast<std::uint32_t>(descriptor >> from & ((std::uint64_t{1} << bits) - 1));
  };
  if (field(62, 2) != 1) {
    fail_kernel(site, "wgmma: the descriptor's swizzle is " + std::to_string(field(62, 2)) +
                          "; the emulator knows 1, of 128 bytes");
  }
  if (field(49, 3) != 0) fail_kernel(site, "wgmma: the descriptor has a base offset; the emulator knows none");
  if (field(14, 2) != 0 || field(30, 2) != 0 || field(46, 3) != 0 || field(52, 10) != 0) {
    fail_kernel(site, "wgmma: bits of the descriptor are set that have to be 0");
  }
  const Matrix matrix{field(0, 14) << 4, field(32, 14) << 4};
  if (matrix.start / 128 % 8 != 0 || matrix.stride % 1024 != 0) {
    fail_kernel(site, "wgmma: the operand's rows begin at shared address " + std::to_string(matrix.start) + ", " +
                          std::to_string(matrix.stride) +
                          " bytes apart; the pattern of the swizzle begins at multiples of 1024");
  }
  return matrix;
}

// Sixteen elements of a row, each eight of which the swizzle keeps together.
void read_row(const Matrix& matrix, std::uint32_t row, bool bf16, float* out, Site site) {
  Machine& m = machine();
  for (std::uint32_t half = 0; half < 2; ++half) {
    std::uint32_t address = matrix.start + row / 8 * matrix.stride + row % 8 * 128 + half * 16;
    address ^= (address >> 7 & 7) << 4;
    const void* const p = from_shared_window(address, site);
    check_shared(p, 16, 16, "wgmma", site);
    std::uint16_t bits[8];
    std::memcpy(bits, p, 16);
    for (std::uint32_t i = 0; i < 8; ++i) out[half * 8 + i] = bf16 ? from_bf16(bits[i]) : from_f16(bits[i]);
    if (Hooks* const hooks = m.hooks()) hooks->proxy_access(m.current().identity.thread, p, 16, false, site);
  }
}

// The four warps of a warpgroup issue the same products in the same order.
void agree(Block& block, std::uint32_t warp, const Product& product) {
  Warpgroup& group = block.warpgroups[warp / 4];
  const std::uint64_t number = group.done[warp % 4]++;
  if (number - group.first == group.issued.size()) {
    group.issued.push_back(product);
  } else if (!group.issued[number - group.first].same(product)) {
    fail_kernel(product.site, "wgmma: the warpgroup diverges: warp " + std::to_string(warp) +
                                  " issues another product than the warps before it, at " +
                                  text(group.issued[number - group.first].site));
  }
  const std::uint64_t all = *std::min_element(group.done.begin(), group.done.end());
  for (; group.first < all; ++group.first) group.issued.pop_front();
}

// D elements of a lane, with g = lane / 4 and t = lane % 4: d[4 j + e] is row g + 8 (e / 2), column 8 j + 2 t + e % 2.
void multiply(Lanes& lanes, const Product& product, const std::array<Accumulators*, 32>& d) {
  Block& block = *machine().current().block;
  const std::uint32_t warp = lanes.first_thread / 32;
  agree(block, warp, product);
  const Matrix a = decode(product.a, product.site);
  const Matrix b = decode(product.b, product.site);
  float rows[16][kDepth];
  std::vector<float> columns(std::size_t{kDepth} * product.columns);  // [depth][column]
  float row[kDepth];
  for (std::uint32_t i = 0; i < 16; ++i) read_row(a, warp % 4 * 16 + i, product.bf16, rows[i], product.site);
  for (std::uint32_t j = 0; j < product.columns; ++j) {
    read_row(b, j, product.bf16, row, product.site);
    for (std::uint32_t k = 0; k < kDepth; ++k) columns[k * product.columns + j] = row[k];
  }
  for (std::uint32_t i = 0; i < 16; ++i) {
    for (std::uint32_t first = 0; first < product.columns; first += 8) {
      // The eight columns of a row are in four lanes.
      float products[kDepth][8], sums[8];
      for (std::uint32_t k = 0; k < kDepth; ++k) {
        for (std::uint32_t j = 0; j < 8; ++j) products[k][j] = rows[i][k] * columns[k * product.columns + first + j];
      }
      const auto sum = [&](std::uint32_t j) -> float& {
        return d[i % 8 * 4 + j / 2]->values[first / 2 + i / 8 * 2 + j % 2];
      };
      for (std::uint32_t j = 0; j < 8; ++j) sums[j] = product.add ? sum(j) : 0.0f;
      tensor_core_add<kDepth, 8>(sums, products);
      for (std::uint32_t j = 0; j < 8; ++j) sum(j) = sums[j];
    }
  }
  ++live_counters().wgmma;
}

// Products of groups below `end`, in order.
void multiply_until(Lanes& lanes, std::uint64_t end) {
  Block& block = *machine().current().block;
  const auto products = [&](std::uint32_t lane) -> Products& {
    return block.threads[lanes.first_thread + lane].products;
  };
  while (!products(0).queue.empty() && products(0).queue.front().group < end) {
    const Product product = products(0).queue.front().product;
    std::array<Accumulators*, 32> d{};
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      auto& queue = products(lane).queue;
      if (queue.empty() || !queue.front().product.same(product)) {
        fail_kernel(product.site, "wgmma: lanes 0 and " + std::to_string(lane) + " of a warp issue different products");
      }
      d[lane] = &products(lane).accumulators[queue.front().accumulators];
      --d[lane]->products;
      queue.pop_front();
    }
    multiply(lanes, product, d);
  }
}

struct Wait {
  std::uint64_t pending;
};

void run_commit(Lanes& lanes) {
  Block& block = *machine().current().block;
  for (std::uint32_t lane = 0; lane < 32; ++lane) ++block.threads[lanes.first_thread + lane].products.group;
  const Copies when = machine().grid_options().copies;
  if (when == Copies::kLazy || (when == Copies::kRandom && machine().random().chance(0.5))) return;
  multiply_until(lanes, block.threads[lanes.first_thread].products.group);
}

void run_wait(Lanes& lanes) {
  Block& block = *machine().current().block;
  const std::uint64_t group = block.threads[lanes.first_thread].products.group;
  const std::uint64_t pending = static_cast<const Wait*>(lanes.argument[0])->pending;
  multiply_until(lanes, group > pending ? group - pending : 0);
}

// Those that earlier products have already, or the variables anew: read, and NaN until they come back.
Accumulators& accumulators_of(const PtxCall& call, std::uint32_t count, Products& products) {
  const auto* const first = static_cast<float*>(call.variable(0));
  Accumulators* own = nullptr;
  for (Accumulators& candidate : products.accumulators) {
    if (candidate.arrived) {
      own = &candidate;  // nobody's
    } else if (candidate.variables.front() == first) {
      if (candidate.variables.size() == count) return candidate;
      fail_kernel(call.site, "wgmma: products of different sizes on the same accumulators are on their way");
    }
  }
  if (!products.fenced) {
    fail_kernel(call.site, "wgmma: no wgmma.fence since the thread could last touch the accumulators");
  }
  if (own == nullptr) own = &products.accumulators.emplace_back();
  *own = {};
  for (std::uint32_t i = 0; i < count; ++i) {
    auto* const variable = static_cast<float*>(call.variable(i));
    own->variables.push_back(variable);
    own->values.push_back(*variable);
    *variable = kGivenAway;
  }
  return *own;
}

void issue(const PtxCall& call, bool bf16) {
  need_capability("wgmma", 90, 90, call.site);
  const std::uint32_t count = call.number_of_name() / 2;
  Thread& self = machine().current();
  Products& products = self.products;
  Products::Issued issued;
  issued.group = products.group;
  issued.product = {call.wide(count), call.wide(count + 1), call.number_of_name(), bf16, call.wide(count + 2) != 0,
                    call.site};
  if (call.immediate(count + 3) != 1 || call.immediate(count + 4) != 1 || call.immediate(count + 5) != 0 ||
      call.immediate(count + 6) != 0) {
    fail_kernel(call.site, "wgmma: the emulator knows factors of 1 and operands that are not transposed: 1, 1, 0, 0");
  }
  Accumulators& mine = accumulators_of(call, count, products);
  ++mine.products;
  mine.last_group = products.group;
  issued.accumulators = static_cast<std::size_t>(&mine - products.accumulators.data());
  products.queue.push_back(issued);
}

}  // namespace

void execute_wgmma_f16(const PtxCall& call) { issue(call, false); }
void execute_wgmma_bf16(const PtxCall& call) { issue(call, true); }
void execute_wgmma_fence(const PtxCall&) { machine().current().products.fenced = true; }

void execute_wgmma_commit(const PtxCall& call) {
  static const Collective op{"wgmma.commit_group", &run_commit, true};
  arrive_collective(op, 0xffffffffu, nullptr, call.step, call.site);
}

// Accumulators on which nothing is on its way any more are the thread's own again.
void execute_wgmma_wait(const PtxCall& call) {
  static const Collective op{"wgmma.wait_group", &run_wait, true};
  Wait wait{static_cast<std::uint64_t>(call.immediate(0))};
  arrive_collective(op, 0xffffffffu, &wait, call.step, call.site);
  Products& products = machine().current().products;
  products.done_group = products.group > wait.pending ? products.group - wait.pending : 0;
  products.fenced = false;
  // Done early (at the commit) is not waited for: groups that may be pending keep their accumulators.
  for (Accumulators& own : products.accumulators) {
    if (own.arrived || own.products > 0 || own.last_group >= products.done_group) continue;
    own.arrived = true;
    for (std::size_t n = 0; n < own.variables.size(); ++n) {
      if (!std::isnan(*own.variables[n])) {
        fail_kernel(call.site, "wgmma: accumulator " + std::to_string(n) +
                                   " has been written between its product and the wait for it");
      }
      *own.variables[n] = own.values[n];
    }
  }
  const bool none = std::all_of(products.accumulators.begin(), products.accumulators.end(),
                                [](const Accumulators& own) { return own.arrived; });
  if (none) products.accumulators.clear();
}

bool in_flight(const void* p, std::size_t bytes) {
  const auto* const at = static_cast<const std::byte*>(p);
  for (const Accumulators& own : machine().current().products.accumulators) {
    if (own.arrived) continue;
    for (const float* const variable : own.variables) {
      const auto* const begin = reinterpret_cast<const std::byte*>(variable);
      if (at < begin + sizeof(float) && begin < at + bytes) return true;
    }
  }
  return false;
}

void check_products(Thread& thread) {
  if (!thread.products.queue.empty()) {
    fail_kernel(thread.products.queue.front().product.site, "the thread ends without waiting for its wgmma");
  }
  const Block& block = *thread.block;
  if (block.live > 1) return;
  for (const Warpgroup& group : block.warpgroups) {
    if (group.issued.empty()) continue;
    fail_kernel(group.issued.front().site, "wgmma: not all four warps of a warpgroup have issued it");
  }
}

std::uint32_t registers_at_launch(std::uint32_t threads) {
  return std::min<std::uint32_t>(65536 / std::max(threads, 1u) / 8 * 8, 248);
}

namespace {

constexpr std::uint32_t kFewestRegisters = 24, kMostRegisters = 256;

std::uint32_t checked_registers(const PtxCall& call) {
  need_capability("setmaxnreg", 90, 129, call.site);
  const std::int64_t wanted = call.immediate(0);
  if (wanted < kFewestRegisters || wanted > kMostRegisters || wanted % 8 != 0) {
    fail_kernel(call.site, "setmaxnreg of " + std::to_string(wanted) + "; 24 to 256 in steps of 8 are possible");
  }
  return static_cast<std::uint32_t>(wanted);
}

}  // namespace

void execute_setmaxnreg_dec(const PtxCall& call) {
  const std::uint32_t wanted = checked_registers(call);
  Machine& m = machine();
  Thread& self = m.current();
  if (wanted > self.registers) {
    fail_kernel(call.site, "setmaxnreg.dec to " + std::to_string(wanted) + ", from " + std::to_string(self.registers));
  }
  self.block->free_registers += self.registers - wanted;
  self.registers = wanted;
  for (Thread* const thread : self.block->register_waiters) m.wake(*thread);
  self.block->register_waiters.clear();
}

// Waits until others have given up as many; for ever, if they do not.
void execute_setmaxnreg_inc(const PtxCall& call) {
  const std::uint32_t wanted = checked_registers(call);
  Machine& m = machine();
  Thread& self = m.current();
  if (wanted < self.registers) {
    fail_kernel(call.site, "setmaxnreg.inc to " + std::to_string(wanted) + ", from " + std::to_string(self.registers));
  }
  while (self.block->free_registers < wanted - self.registers) {
    self.block->register_waiters.push_back(&self);
    m.suspend("setmaxnreg.inc, for registers that the block does not have", call.site);
  }
  self.block->free_registers -= wanted - self.registers;
  self.registers = wanted;
}

}  // namespace ag::emu
