// SPDX-License-Identifier: Apache-2.0
// Inline PTX, run from its text. ATTNGRAPH_PTX makes a PtxInstruction for each place in the source and a list of
// operands for each execution; the text is parsed, and checked against the operands' constraints, when it is first
// executed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "emu.hpp"

namespace ag::emu {

enum class OperandKind : std::uint8_t { kOutR, kOutF, kIoR, kIoF, kIoL, kInR, kInF, kInL, kInN, kInShared };

struct Operand {
  OperandKind kind;
  union {
    void* address;        // kOut, kIo: the variable; kInShared: the pointer
    std::uint64_t value;  // kIn: the bits, or the number
  };
};

template <class T>
Operand variable(OperandKind kind, T& x) {
  static_assert(sizeof(T) == 4, "\"r\" and \"f\" take variables of 32 bits");
  static_assert(!std::is_const_v<T>, "an output has to be writable");
  Operand operand{kind, {}};
  operand.address = &x;
  return operand;
}

template <class T>
Operand output_r(OperandKind kind, T& x) {
  static_assert(std::is_integral_v<T>, "\"r\" takes an integer");
  return variable(kind, x);
}

// A 64-bit integer, or a pointer to global memory.
template <class T>
Operand output_l(OperandKind kind, T& x) {
  static_assert(sizeof(T) == 8 && (std::is_integral_v<T> || std::is_pointer_v<T>)&&!std::is_const_v<T>,
                "\"+l\" takes a pointer or an integer of 64 bits");
  Operand operand{kind, {}};
  operand.address = &x;
  return operand;
}

inline Operand output_f(OperandKind kind, float& x) { return variable(kind, x); }

template <class T>
Operand input_r(T x) {
  static_assert(std::is_integral_v<T> && sizeof(T) <= 4, "\"r\" takes an integer of at most 32 bits");
  Operand operand{OperandKind::kInR, {}};
  operand.value = static_cast<std::uint32_t>(x);
  return operand;
}

inline Operand input_f(float x) {
  Operand operand{OperandKind::kInF, {}};
  operand.value = 0;
  std::memcpy(&operand.value, &x, sizeof x);
  return operand;
}

template <class T>
Operand input_l(T x) {
  static_assert(sizeof(T) == 8 && (std::is_integral_v<T> || std::is_pointer_v<T>),
                "\"l\" takes a pointer or an integer of 64 bits");
  Operand operand{OperandKind::kInL, {}};
  std::memcpy(&operand.value, &x, sizeof x);
  return operand;
}

template <long long kValue>
Operand constant() {
  Operand operand{OperandKind::kInN, {}};
  operand.value = static_cast<std::uint64_t>(kValue);
  return operand;
}

inline Operand input_shared(const void* p) {
  Operand operand{OperandKind::kInShared, {}};
  operand.address = const_cast<void*>(p);
  return operand;
}

template <class... Operands>
std::array<Operand, sizeof...(Operands)> operands(const Operands&... each) {
  return {each...};
}

struct PtxProgram;

struct PtxInstruction {
  const char* text;
  Site site;
  bool memory;                          // ATTNGRAPH_PTX_MEMORY
  const PtxProgram* program = nullptr;  // once parsed
};

void run_ptx(PtxInstruction& instruction, const Operand* outputs, std::size_t output_count, const Operand* inputs,
             std::size_t input_count);

// What an error in a text says; empty when the text and its operands fit. For tests of the parser.
std::string ptx_error(const char* text, bool memory, const std::vector<Operand>& outputs,
                      const std::vector<Operand>& inputs);

template <std::size_t kOutputs, std::size_t kInputs>
void run_ptx(PtxInstruction& instruction, const std::array<Operand, kOutputs>& outputs,
             const std::array<Operand, kInputs>& inputs) {
  run_ptx(instruction, outputs.data(), kOutputs, inputs.data(), kInputs);
}

}  // namespace ag::emu
