// SPDX-License-Identifier: Apache-2.0
// A parsed instruction and the table of those that are known.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptx.hpp"

namespace ag::emu {

struct PtxStep;

// One execution of an instruction by one thread: its arguments in the order of the text.
struct PtxCall {
  const PtxProgram* program = nullptr;
  const PtxStep* step = nullptr;
  const Operand* outputs = nullptr;
  const Operand* inputs = nullptr;
  std::uint64_t* locals = nullptr;  // registers that the text declares
  Site site;

  std::size_t items() const;
  // The number in the opcode's name, where the table has a #.
  std::uint32_t number_of_name() const;

  const Operand& operand(std::size_t item) const;
  std::uint32_t bits(std::size_t item) const;  // of a 32-bit operand
  std::uint64_t wide(std::size_t item) const;  // of a 64-bit one, or of a register of the text
  float number(std::size_t item) const;
  std::int64_t immediate(std::size_t item) const;  // written in the text, or an "n" operand
  void* pointer(std::size_t item) const;           // an address, global or shared, its offset added
  void* variable(std::size_t item) const;          // where an output lives
  void store(std::size_t item, std::uint32_t bits) const;
  void store(std::size_t item, float number) const;
  void store_wide(std::size_t item, std::uint64_t bits) const;
};

// Arguments as they have to be: r (32-bit integer), f (float), l (64-bit integer or global address), s (shared address,
// as a pointer), S (the same, or an "r" operand that holds it as __cvta_generic_to_shared gives it), n (number in the
// text or an "n" operand), N (the same, or an "r" operand), p and b (a predicate, a register of 64 bits, declared in
// the text), B (the same as b, or _ for nowhere); {..} around vectors, [..] around addresses, [.{..}] around the place
// in a tensor, | between two that are written, = before what is written. A # in a name stands for a number n, a * in a
// vector for n / 2 times what stands before it.
struct PtxOpcode {
  const char* name;
  const char* arguments;
  bool memory;
  void (*execute)(const PtxCall&);
};

struct PtxItem {
  enum Kind : std::uint8_t { kOperand, kNumber, kLocal, kNowhere };
  Kind kind = kOperand;
  std::uint8_t index = 0;   // of an operand or a register of the text
  std::int64_t number = 0;  // or what is added to an address
};

// One instruction of a text.
struct PtxStep {
  const PtxOpcode* opcode = nullptr;
  std::vector<PtxItem> items;  // all arguments, groups flattened
  std::uint32_t name_number = 0;
  int guard = -1;  // the predicate that has to hold, or not to
  bool guard_holds = true;
};

struct PtxProgram {
  std::vector<PtxStep> steps;
  std::uint32_t output_count = 0;  // operands below this number are outputs
  std::uint32_t local_count = 0;   // at most kMostPtxLocals
};

inline constexpr std::size_t kMostPtxLocals = 4;

// The opcodes of this name; `number` is what stands for its #.
std::vector<const PtxOpcode*> find_ptx_opcodes(const std::string& name, std::uint32_t& number);

// Empty and `program` filled, or what is wrong.
std::string parse_ptx(const char* text, bool memory, const std::vector<OperandKind>& operands, std::uint32_t outputs,
                      PtxProgram& program);

// Opcodes, by file.
void execute_cp_async(const PtxCall&);
void execute_cp_async_zfill(const PtxCall&);
void execute_cp_async_commit(const PtxCall&);
void execute_cp_async_wait(const PtxCall&);
void execute_cp_async_wait_all(const PtxCall&);
void execute_ldmatrix(const PtxCall&);
void execute_ldmatrix_transposed(const PtxCall&);
void execute_mma_f16(const PtxCall&);
void execute_mma_bf16(const PtxCall&);
void execute_ex2(const PtxCall&);
void execute_lg2(const PtxCall&);
void execute_rcp(const PtxCall&);
void execute_bar_sync(const PtxCall&);
void execute_bar_sync_count(const PtxCall&);
void execute_setp_ne(const PtxCall&);
void execute_setp_ge(const PtxCall&);
void execute_selp(const PtxCall&);
void execute_add_wide(const PtxCall&);
void execute_store_global(const PtxCall&);
void execute_elect(const PtxCall&);
void execute_mbarrier_init(const PtxCall&);
void execute_mbarrier_arrive(const PtxCall&);
void execute_mbarrier_arrive_expect(const PtxCall&);
void execute_mbarrier_try_wait(const PtxCall&);
void execute_mbarrier_fence(const PtxCall&);
void execute_proxy_fence(const PtxCall&);
void execute_tensor_copy(const PtxCall&);
void execute_wgmma_f16(const PtxCall&);
void execute_wgmma_bf16(const PtxCall&);
void execute_wgmma_fence(const PtxCall&);
void execute_wgmma_commit(const PtxCall&);
void execute_wgmma_wait(const PtxCall&);
void execute_setmaxnreg_inc(const PtxCall&);
void execute_setmaxnreg_dec(const PtxCall&);

}  // namespace ag::emu
