// SPDX-License-Identifier: Apache-2.0
// mma, the approximate functions, and barriers written as PTX.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "machine.hpp"
#include "numbers.hpp"
#include "ptx_program.hpp"
#include "tensor_core.hpp"

namespace ag::emu {
namespace {

// The fragments of m16n8k16, with g = lane / 4 and t = lane % 4, as the PTX manual draws them:
//   A register r, half h: row g + 8 (r % 2), column 2 t + h + 8 (r / 2)
//   B register r, half h: row 2 t + h + 8 r, column g
//   C, D element e:       row g + 8 (e / 2), column 2 t + e % 2
template <float (*kConvert)(std::uint32_t)>
void run_mma(Lanes& lanes) {
  float a[16][16];
  float b[16][8];
  float c[16][8];
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    const auto& call = *static_cast<const PtxCall*>(lanes.argument[lane]);
    const std::uint32_t g = lane / 4;
    const std::uint32_t t = lane % 4;
    for (std::uint32_t r = 0; r < 4; ++r) {
      const std::uint32_t pair = call.bits(4 + r);
      for (std::uint32_t h = 0; h < 2; ++h) {
        a[g + 8 * (r % 2)][2 * t + h + 8 * (r / 2)] = kConvert(pair >> 16 * h & 0xffffu);
      }
    }
    for (std::uint32_t r = 0; r < 2; ++r) {
      const std::uint32_t pair = call.bits(8 + r);
      for (std::uint32_t h = 0; h < 2; ++h) b[2 * t + h + 8 * r][g] = kConvert(pair >> 16 * h & 0xffffu);
    }
    for (std::uint32_t e = 0; e < 4; ++e) c[g + 8 * (e / 2)][2 * t + e % 2] = call.number(10 + e);
  }
  for (std::uint32_t i = 0; i < 16; ++i) {
    float products[16][8];
    for (std::uint32_t k = 0; k < 16; ++k) {
      for (std::uint32_t j = 0; j < 8; ++j) products[k][j] = a[i][k] * b[k][j];
    }
    tensor_core_add(c[i], products);
  }
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    const auto& call = *static_cast<const PtxCall*>(lanes.argument[lane]);
    for (std::uint32_t e = 0; e < 4; ++e) call.store(e, c[lane / 4 + 8 * (e / 2)][lane % 4 * 2 + e % 2]);
  }
  ++live_counters().mma;
}

float flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }

}  // namespace

void execute_mma_f16(const PtxCall& call) {
  static const Collective op{"mma (f16)", &run_mma<from_f16>, true};
  PtxCall mine = call;
  arrive_collective(op, 0xffffffffu, &mine, call.step, call.site);
}

void execute_mma_bf16(const PtxCall& call) {
  static const Collective op{"mma (bf16)", &run_mma<from_bf16>, true};
  PtxCall mine = call;
  arrive_collective(op, 0xffffffffu, &mine, call.step, call.site);
}

void execute_ex2(const PtxCall& call) { call.store(0, flush(approximate_exp2(flush(call.number(1))))); }
void execute_lg2(const PtxCall& call) { call.store(0, std::log2(flush(call.number(1)))); }
void execute_rcp(const PtxCall& call) { call.store(0, flush(1.0f / flush(call.number(1)))); }

void execute_setp_ne(const PtxCall& call) { call.store_wide(0, call.immediate(1) != call.immediate(2) ? 1 : 0); }
void execute_setp_ge(const PtxCall& call) { call.store_wide(0, call.number(1) >= call.number(2) ? 1 : 0); }
void execute_selp(const PtxCall& call) {
  call.store(0, static_cast<std::uint32_t>(call.wide(3) != 0 ? call.immediate(1) : call.immediate(2)));
}
void execute_add_wide(const PtxCall& call) {
  call.store_wide(0, call.wide(1) + static_cast<std::uint64_t>(call.immediate(2)));
}

void execute_bar_sync(const PtxCall& call) {
  arrive_barrier(static_cast<std::uint32_t>(call.immediate(0)),
                 static_cast<std::uint32_t>(machine().current().block->threads.size()), call.site);
}

void execute_bar_sync_count(const PtxCall& call) {
  const std::int64_t threads = call.immediate(1);
  if (threads % 32 != 0)
    fail_kernel(call.site, "bar.sync of " + std::to_string(threads) + " threads: not a multiple of 32");
  arrive_barrier(static_cast<std::uint32_t>(call.immediate(0)), static_cast<std::uint32_t>(threads), call.site);
}

}  // namespace ag::emu
