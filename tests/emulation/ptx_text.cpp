// SPDX-License-Identifier: Apache-2.0
// From the text of an instruction to a program.
#include <array>
#include <cctype>
#include <cstring>
#include <memory>
#include <mutex>

#include "machine.hpp"
#include "ptx_program.hpp"

namespace ag::emu {
namespace {

constexpr PtxOpcode kOpcodes[] = {
    {"cp.async.cg.shared.global", "[s] [l] n", true, &execute_cp_async},
    {"cp.async.cg.shared.global", "[s] [l] n N", true, &execute_cp_async_zfill},
    {"cp.async.ca.shared.global", "[s] [l] n", true, &execute_cp_async},
    {"cp.async.ca.shared.global", "[s] [l] n N", true, &execute_cp_async_zfill},
    {"cp.async.commit_group", "", true, &execute_cp_async_commit},
    {"cp.async.wait_group", "n", true, &execute_cp_async_wait},
    {"cp.async.wait_all", "", true, &execute_cp_async_wait_all},
    {"ldmatrix.sync.aligned.m8n8.x1.shared.b16", "={r} [s]", true, &execute_ldmatrix},
    {"ldmatrix.sync.aligned.m8n8.x2.shared.b16", "={rr} [s]", true, &execute_ldmatrix},
    {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", "={rrrr} [s]", true, &execute_ldmatrix},
    {"ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16", "={r} [s]", true, &execute_ldmatrix_transposed},
    {"ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16", "={rr} [s]", true, &execute_ldmatrix_transposed},
    {"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "={rrrr} [s]", true, &execute_ldmatrix_transposed},
    {"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "={ffff} {rrrr} {rr} {ffff}", false, &execute_mma_f16},
    {"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "={ffff} {rrrr} {rr} {ffff}", false, &execute_mma_bf16},
    {"ex2.approx.ftz.f32", "=f f", false, &execute_ex2},
    {"lg2.approx.ftz.f32", "=f f", false, &execute_lg2},
    {"rcp.approx.ftz.f32", "=f f", false, &execute_rcp},
    {"bar.sync", "N", true, &execute_bar_sync},
    {"bar.sync", "N N", true, &execute_bar_sync_count},
};

const char* constraint(OperandKind kind) {
  switch (kind) {
    case OperandKind::kOutR: return "\"=r\"";
    case OperandKind::kOutF: return "\"=f\"";
    case OperandKind::kIoR: return "\"+r\"";
    case OperandKind::kIoF: return "\"+f\"";
    case OperandKind::kInR: return "\"r\"";
    case OperandKind::kInF: return "\"f\"";
    case OperandKind::kInL: return "\"l\"";
    case OperandKind::kInN: return "\"n\"";
    case OperandKind::kInShared: return "\"r\" (shared)";
  }
  return "?";
}

bool is_output(OperandKind kind) { return kind <= OperandKind::kIoF; }
bool is_input(OperandKind kind) { return kind >= OperandKind::kIoR; }

bool fits(char wanted, OperandKind kind) {
  using enum OperandKind;
  switch (wanted) {
    case 'r': return kind == kOutR || kind == kIoR || kind == kInR;
    case 'f': return kind == kOutF || kind == kIoF || kind == kInF;
    case 'l': return kind == kInL;
    case 's': return kind == kInShared;
    case 'n': return kind == kInN;
    case 'N': return kind == kInN || kind == kInR || kind == kIoR;
    default: return false;
  }
}

// An argument of the text: an operand or a number, or a group of them.
struct Argument {
  char bracket = ' ';  // or { or [
  std::vector<PtxItem> items;
};

struct Reader {
  const char* p;
  void skip() {
    while (std::isspace(static_cast<unsigned char>(*p)) != 0) ++p;
  }
  bool take(char c) {
    skip();
    if (*p != c) return false;
    ++p;
    return true;
  }
  bool item(PtxItem& out) {
    skip();
    const bool operand = *p == '%';
    const char* const begin = operand ? p + 1 : p;
    if (std::isdigit(static_cast<unsigned char>(*begin)) == 0) return false;
    char* end = nullptr;
    const unsigned long long number = std::strtoull(begin, &end, operand ? 10 : 0);
    p = end;
    out.is_immediate = !operand;
    if (operand) {
      out.operand = static_cast<std::uint8_t>(number < 255 ? number : 255);
    } else {
      out.immediate = static_cast<std::int64_t>(number);
    }
    return true;
  }
  bool argument(Argument& out) {
    out = {};
    if (take('{'))
      out.bracket = '{';
    else if (take('['))
      out.bracket = '[';
    do {
      out.items.emplace_back();
      if (!item(out.items.back())) return false;
    } while (out.bracket == '{' && take(','));
    return out.bracket == ' ' || take(out.bracket == '{' ? '}' : ']');
  }
};

// One argument against its word of PtxOpcode::arguments, such as ={ffff}.
std::string check_argument(const char* word, std::size_t length, const Argument& argument,
                           const std::vector<OperandKind>& operands) {
  const std::string wanted(word, length);
  std::size_t at = 0;
  const bool written = wanted[at] == '=';
  if (written) ++at;
  char bracket = ' ';
  std::string kinds = wanted.substr(at);
  if (kinds.front() == '{' || kinds.front() == '[') {
    bracket = kinds.front();
    kinds = kinds.substr(1, kinds.size() - 2);
  }
  // A vector of one may stand without braces, as ptxas has it.
  const bool same_bracket =
      argument.bracket == bracket || (bracket == '{' && kinds.size() == 1 && argument.bracket == ' ');
  if (!same_bracket || argument.items.size() != kinds.size()) {
    return "an argument should read " + wanted;
  }
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const PtxItem& item = argument.items[i];
    if (item.is_immediate) {
      if (kinds[i] != 'n' && kinds[i] != 'N') return "a number stands where an operand should";
      continue;
    }
    const std::string name = "%" + std::to_string(item.operand);
    if (item.operand >= operands.size()) return name + " is not among the operands";
    const OperandKind kind = operands[item.operand];
    if (!fits(kinds[i], kind)) {
      return name + " is " + constraint(kind) + "; its place takes " + std::string(1, kinds[i]) +
             " (r 32-bit integer, f float, l global address, s shared address, n constant)";
    }
    if (written && !is_output(kind)) return name + " is written and is no output";
    if (!written && !is_input(kind)) return name + " is read and is only an output";
  }
  return {};
}

}  // namespace

std::string parse_ptx(const char* text, bool memory, const std::vector<OperandKind>& operands, std::uint32_t outputs,
                      PtxProgram& program) {
  Reader reader{text};
  reader.skip();
  const char* const begin = reader.p;
  while (std::isalnum(static_cast<unsigned char>(*reader.p)) != 0 || *reader.p == '.' || *reader.p == '_') ++reader.p;
  const std::string name(begin, reader.p);
  std::vector<Argument> arguments;
  reader.skip();
  if (*reader.p != ';') {
    do {
      arguments.emplace_back();
      if (!reader.argument(arguments.back())) return std::string("cannot be read at '") + reader.p + "'";
    } while (reader.take(','));
  }
  if (!reader.take(';')) return std::string("a ';' is missing at '") + reader.p + "'";
  reader.skip();
  if (*reader.p != '\0') return std::string("one instruction a text; another follows: '") + reader.p + "'";

  std::string problem = "the opcode '" + name + "' is not known to the emulator";
  for (const PtxOpcode& opcode : kOpcodes) {
    if (name != opcode.name) continue;
    problem.clear();
    if (memory != opcode.memory) {
      return opcode.memory ? "it touches memory or orders it: use ATTNGRAPH_PTX_MEMORY"
                           : "it depends on its operands alone: use ATTNGRAPH_PTX";
    }
    std::size_t i = 0;
    const char* word = opcode.arguments;
    while (*word != '\0') {
      const std::size_t length = std::strcspn(word, " ");
      if (i >= arguments.size()) {
        problem = "arguments are missing; it takes: " + std::string(opcode.arguments);
        break;
      }
      problem = check_argument(word, length, arguments[i++], operands);
      if (!problem.empty()) break;
      word += length;
      while (*word == ' ') ++word;
    }
    if (problem.empty() && i < arguments.size()) {
      problem = "there are too many arguments; it takes: " + std::string(opcode.arguments);
    }
    if (!problem.empty()) continue;  // another form of the same opcode may fit
    program.opcode = &opcode;
    break;
  }
  if (!problem.empty()) return problem;

  program.output_count = outputs;
  std::vector<bool> used(operands.size(), false);
  for (const Argument& argument : arguments) {
    for (const PtxItem& item : argument.items) {
      program.items.push_back(item);
      if (!item.is_immediate) used[item.operand] = true;
    }
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) return "%" + std::to_string(i) + " is given and the text does not use it";
  }
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (is_output(operands[i]) != (i < outputs)) return "outputs and inputs are mixed in one list";
  }
  return {};
}

std::string ptx_error(const char* text, bool memory, const std::vector<Operand>& outputs,
                      const std::vector<Operand>& inputs) {
  std::vector<OperandKind> kinds;
  for (const Operand& operand : outputs) kinds.push_back(operand.kind);
  for (const Operand& operand : inputs) kinds.push_back(operand.kind);
  PtxProgram program;
  return parse_ptx(text, memory, kinds, static_cast<std::uint32_t>(outputs.size()), program);
}

void run_ptx(PtxInstruction& instruction, const Operand* outputs, std::size_t output_count, const Operand* inputs,
             std::size_t input_count) {
  if (instruction.program == nullptr) {
    static std::vector<std::unique_ptr<PtxProgram>>
        programs;  // one for each place in the source; never freed before the end
    std::vector<OperandKind> kinds;
    for (std::size_t i = 0; i < output_count; ++i) kinds.push_back(outputs[i].kind);
    for (std::size_t i = 0; i < input_count; ++i) kinds.push_back(inputs[i].kind);
    auto program = std::make_unique<PtxProgram>();
    const std::string problem =
        parse_ptx(instruction.text, instruction.memory, kinds, static_cast<std::uint32_t>(output_count), *program);
    if (!problem.empty()) fail_kernel(instruction.site, "PTX \"" + std::string(instruction.text) + "\": " + problem);
    programs.push_back(std::move(program));
    instruction.program = programs.back().get();
  }
  const PtxCall call{instruction.program, outputs, inputs, instruction.site};
  instruction.program->opcode->execute(call);
}

const Operand& PtxCall::operand(std::size_t item) const {
  const std::uint32_t i = program->items[item].operand;
  return i < program->output_count ? outputs[i] : inputs[i - program->output_count];
}

std::uint32_t PtxCall::bits(std::size_t item) const {
  const Operand& x = operand(item);
  if (!is_output(x.kind)) return static_cast<std::uint32_t>(x.value);
  std::uint32_t value;
  std::memcpy(&value, x.address, sizeof value);
  return value;
}

float PtxCall::number(std::size_t item) const {
  const std::uint32_t value = bits(item);
  float x;
  std::memcpy(&x, &value, sizeof x);
  return x;
}

std::int64_t PtxCall::immediate(std::size_t item) const {
  const PtxItem& x = program->items[item];
  if (x.is_immediate) return x.immediate;
  const OperandKind kind = operand(item).kind;
  return kind == OperandKind::kInN ? static_cast<std::int64_t>(operand(item).value)
                                   : static_cast<std::int64_t>(bits(item));
}

void* PtxCall::pointer(std::size_t item) const {
  const Operand& x = operand(item);
  return x.kind == OperandKind::kInShared ? x.address : reinterpret_cast<void*>(x.value);
}

void PtxCall::store(std::size_t item, std::uint32_t value) const {
  std::memcpy(operand(item).address, &value, sizeof value);
}

void PtxCall::store(std::size_t item, float value) const { std::memcpy(operand(item).address, &value, sizeof value); }

}  // namespace ag::emu
