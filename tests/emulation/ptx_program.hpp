// SPDX-License-Identifier: Apache-2.0
// A parsed instruction and the table of those that are known.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptx.hpp"

namespace ag::emu {

// One execution by one thread: the operands in the order in which the text names them.
struct PtxCall {
  const PtxProgram* program = nullptr;
  const Operand* outputs = nullptr;
  const Operand* inputs = nullptr;
  Site site;

  const Operand& operand(std::size_t item) const;
  std::uint32_t bits(std::size_t item) const;  // of a 32-bit operand
  float number(std::size_t item) const;
  std::int64_t immediate(std::size_t item) const;  // written in the text, or an "n" operand
  void* pointer(std::size_t item) const;           // an address, global or shared
  void store(std::size_t item, std::uint32_t bits) const;
  void store(std::size_t item, float number) const;
};

// Arguments as they have to be: r (32-bit integer), f (float), l (global address), s (shared address), n (number in the
// text or an "n" operand), N (the same, or an "r" operand); {..} around vectors, [..] around addresses, = before what
// is written.
struct PtxOpcode {
  const char* name;
  const char* arguments;
  bool memory;
  void (*execute)(const PtxCall&);
};

struct PtxItem {
  bool is_immediate = false;
  std::int64_t immediate = 0;
  std::uint8_t operand = 0;  // number in the text
};

struct PtxProgram {
  const PtxOpcode* opcode = nullptr;
  std::vector<PtxItem> items;      // all arguments, groups flattened
  std::uint32_t output_count = 0;  // operands below this number are outputs
};

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

}  // namespace ag::emu
