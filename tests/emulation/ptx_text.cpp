// SPDX-License-Identifier: Apache-2.0
// From a text to a program, and what an execution sees of its operands.
#include <array>
#include <cctype>
#include <cstring>
#include <memory>
#include <mutex>

#include "machine.hpp"
#include "ptx_program.hpp"

namespace ag::emu {
namespace {

const char* constraint(OperandKind kind) {
  switch (kind) {
    case OperandKind::kOutR: return "\"=r\"";
    case OperandKind::kOutF: return "\"=f\"";
    case OperandKind::kIoR: return "\"+r\"";
    case OperandKind::kIoF: return "\"+f\"";
    case OperandKind::kIoL: return "\"+l\"";
    case OperandKind::kInR: return "\"r\"";
    case OperandKind::kInF: return "\"f\"";
    case OperandKind::kInL: return "\"l\"";
    case OperandKind::kInN: return "\"n\"";
    case OperandKind::kInShared: return "\"r\" (shared)";
  }
  return "?";
}

bool is_output(OperandKind kind) { return kind <= OperandKind::kIoL; }
bool is_input(OperandKind kind) { return kind >= OperandKind::kIoR; }

bool fits(char wanted, OperandKind kind) {
  using enum OperandKind;
  switch (wanted) {
    case 'r': return kind == kOutR || kind == kIoR || kind == kInR;
    case 'f': return kind == kOutF || kind == kIoF || kind == kInF;
    case 'l': return kind == kInL || kind == kIoL;
    case 's': return kind == kInShared;
    case 'S': return kind == kInShared || kind == kInR || kind == kIoR;
    case 'n': return kind == kInN;
    case 'N': return kind == kInN || kind == kInR || kind == kIoR;
    default: return false;
  }
}

// An argument of the text: an item, or a group of them.
struct Argument {
  char bracket = ' ';  // or { or [ or | (two that are written) or T (a place in a tensor, [..{..}])
  std::vector<PtxItem> items;
};

struct Reader {
  const char* p;
  std::vector<std::string> locals;  // registers that the text has declared, by kind and name: "p:is_last"
  void skip() {
    while (std::isspace(static_cast<unsigned char>(*p)) != 0) ++p;
  }
  bool take(char c) {
    skip();
    if (*p != c) return false;
    ++p;
    return true;
  }
  bool at_name() const { return std::isalpha(static_cast<unsigned char>(*p)) != 0 || *p == '_'; }
  std::string name() {
    skip();
    const char* const begin = p;
    while (std::isalnum(static_cast<unsigned char>(*p)) != 0 || *p == '.' || *p == '_' || *p == ':') ++p;
    return {begin, p};
  }
  int local(const std::string& wanted) const {
    for (std::size_t i = 0; i < locals.size(); ++i) {
      if (locals[i].substr(2) == wanted) return static_cast<int>(i);
    }
    return -1;
  }
  bool number(std::int64_t& out, int base) {
    skip();
    if (std::isdigit(static_cast<unsigned char>(*p)) == 0) return false;
    char* end = nullptr;
    out = static_cast<std::int64_t>(std::strtoull(p, &end, base));
    p = end;
    return true;
  }
  bool item(PtxItem& out) {
    skip();
    if (at_name()) {
      const std::string wanted = name();
      out.kind = wanted == "_" ? PtxItem::kNowhere : PtxItem::kLocal;
      const int index = local(wanted);
      out.index = static_cast<std::uint8_t>(index);
      return out.kind == PtxItem::kNowhere || index >= 0;
    }
    const bool operand = take('%');
    std::int64_t value = 0;
    if (!number(value, operand ? 10 : 0)) return false;
    out.kind = operand ? PtxItem::kOperand : PtxItem::kNumber;
    if (operand) {
      out.index = static_cast<std::uint8_t>(value < 255 ? value : 255);
    } else {
      out.number = value;
    }
    return true;
  }
  bool list(Argument& out, char separator) {
    do {
      out.items.emplace_back();
      if (!item(out.items.back())) return false;
    } while (take(separator));
    return true;
  }
  bool argument(Argument& out) {
    out = {};
    if (take('{')) {
      out.bracket = '{';
      return list(out, ',') && take('}');
    }
    if (!take('[')) {
      if (!list(out, '|')) return false;
      if (out.items.size() > 1) out.bracket = '|';
      return true;
    }
    out.bracket = '[';
    out.items.emplace_back();
    if (!item(out.items.back())) return false;
    if (take('+') && !number(out.items.back().number, 0)) return false;
    if (take(',')) {
      out.bracket = 'T';
      if (!take('{') || !list(out, ',') || !take('}')) return false;
    }
    return take(']');
  }
};

// The kinds of a word's items, without = and brackets; a * is spelt out.
std::string kinds_of(const std::string& word, std::uint32_t name_number) {
  std::string kinds;
  for (const char c : word) {
    if (c == '*') {
      kinds.append(name_number / 2 - 1, kinds.back());
    } else if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      kinds += c;
    }
  }
  return kinds;
}

char bracket_of(const std::string& word) {
  if (word.find('|') != std::string::npos) return '|';
  if (word.find('[') == std::string::npos) return word.find('{') != std::string::npos ? '{' : ' ';
  return word.find('{') != std::string::npos ? 'T' : '[';
}

// One argument against its word of PtxOpcode::arguments, such as ={ffff}.
std::string check_argument(const std::string& wanted, std::uint32_t name_number, const Argument& argument,
                           const std::vector<OperandKind>& operands, const std::vector<std::string>& locals) {
  const bool written = wanted[0] == '=';
  const char bracket = bracket_of(wanted);
  const std::string kinds = kinds_of(wanted, name_number);
  // A vector of one may stand without braces, as ptxas has it.
  const bool same_bracket =
      argument.bracket == bracket || (bracket == '{' && kinds.size() == 1 && argument.bracket == ' ');
  if (!same_bracket || argument.items.size() != kinds.size()) {
    return "an argument should read " + wanted;
  }
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const PtxItem& item = argument.items[i];
    const char kind_wanted = kinds[i];
    const bool takes_local = kind_wanted == 'p' || kind_wanted == 'b' || kind_wanted == 'B';
    if (item.kind == PtxItem::kNumber) {
      if (kind_wanted != 'n' && kind_wanted != 'N') return "a number stands where an operand should";
    } else if (item.kind == PtxItem::kNowhere) {
      if (kind_wanted != 'B') return "_ stands where an operand should";
    } else if (item.kind == PtxItem::kLocal || takes_local) {
      const char has = item.kind == PtxItem::kLocal ? locals[item.index][0] : ' ';
      if (has != (kind_wanted == 'B' ? 'b' : kind_wanted)) {
        return std::string("a register of the text stands where it does not fit, or is missing: its place takes ") +
               kind_wanted + " (p predicate, b 64 bits)";
      }
    } else {
      const std::string name = "%" + std::to_string(item.index);
      if (item.index >= operands.size()) return name + " is not among the operands";
      const OperandKind kind = operands[item.index];
      if (!fits(kind_wanted, kind)) {
        return name + " is " + constraint(kind) + "; its place takes " + std::string(1, kind_wanted) +
               " (r 32-bit integer, f float, l global address, s shared address, n constant)";
      }
      if (written && !is_output(kind)) return name + " is written and is no output";
      if (!written && !is_input(kind)) return name + " is read and is only an output";
    }
  }
  return {};
}

// Arguments against a form of the opcode.
std::string check_form(const PtxOpcode& opcode, std::uint32_t name_number, const std::vector<Argument>& arguments,
                       const std::vector<OperandKind>& operands, const std::vector<std::string>& locals) {
  std::size_t i = 0;
  const char* word = opcode.arguments;
  while (*word != '\0') {
    const std::size_t length = std::strcspn(word, " ");
    if (i >= arguments.size()) return "arguments are missing; it takes: " + std::string(opcode.arguments);
    const std::string problem =
        check_argument(std::string(word, length), name_number, arguments[i++], operands, locals);
    if (!problem.empty()) return problem;
    word += length;
    while (*word == ' ') ++word;
  }
  if (i < arguments.size()) return "there are too many arguments; it takes: " + std::string(opcode.arguments);
  return {};
}

// "opcode arguments;", perhaps behind "@p" or "@!p".
std::string parse_step(Reader& reader, const std::vector<OperandKind>& operands, PtxStep& step) {
  if (reader.take('@')) {
    step.guard_holds = !reader.take('!');
    const std::string predicate = reader.name();
    step.guard = reader.local(predicate);
    if (step.guard < 0 || reader.locals[static_cast<std::size_t>(step.guard)][0] != 'p') {
      return "'" + predicate + "' is no predicate of the text";
    }
  }
  const std::string name = reader.name();
  std::vector<Argument> arguments;
  reader.skip();
  if (*reader.p != ';') {
    do {
      arguments.emplace_back();
      if (!reader.argument(arguments.back())) return std::string("cannot be read at '") + reader.p + "'";
    } while (reader.take(','));
  }
  if (!reader.take(';')) return std::string("a ';' is missing at '") + reader.p + "'";

  std::string problem = "the opcode '" + name + "' is not known to the emulator";
  for (const PtxOpcode* opcode : find_ptx_opcodes(name, step.name_number)) {
    problem = check_form(*opcode, step.name_number, arguments, operands, reader.locals);
    if (!problem.empty()) continue;  // another form of the same opcode may fit
    step.opcode = opcode;
    break;
  }
  for (const Argument& argument : arguments) {
    step.items.insert(step.items.end(), argument.items.begin(), argument.items.end());
  }
  return problem;
}

// ".reg .pred p, q;"
std::string parse_declaration(Reader& reader) {
  const std::string type = (reader.skip(), reader.name());
  if (type != ".pred" && type != ".b64") return "registers of a text are .pred or .b64, not '" + type + "'";
  do {
    reader.locals.push_back((type == ".pred" ? "p:" : "b:") + reader.name());
  } while (reader.take(','));
  if (reader.locals.size() > kMostPtxLocals) return "too many registers";
  return reader.take(';') ? "" : std::string("a ';' is missing at '") + reader.p + "'";
}

}  // namespace

std::string parse_ptx(const char* text, bool memory, const std::vector<OperandKind>& operands, std::uint32_t outputs,
                      PtxProgram& program) {
  Reader reader{text, {}};
  const bool block = reader.take('{');
  do {
    reader.skip();
    if (block && *reader.p == '.') {
      if (const std::string word = reader.name(); word != ".reg") return "'" + word + "' is not known to the emulator";
      if (const std::string problem = parse_declaration(reader); !problem.empty()) return problem;
      continue;
    }
    program.steps.emplace_back();
    if (const std::string problem = parse_step(reader, operands, program.steps.back()); !problem.empty()) {
      return problem;
    }
  } while (block && !reader.take('}'));
  reader.skip();
  if (*reader.p != '\0') return std::string("one instruction a text; another follows: '") + reader.p + "'";

  bool touches_memory = false;
  std::vector<bool> used(operands.size(), false);
  for (const PtxStep& step : program.steps) {
    touches_memory = touches_memory || step.opcode->memory;
    for (const PtxItem& item : step.items) {
      if (item.kind == PtxItem::kOperand) used[item.index] = true;
    }
  }
  if (memory != touches_memory) {
    return touches_memory ? "it touches memory or orders it: use ATTNGRAPH_PTX_MEMORY"
                          : "it depends on its operands alone: use ATTNGRAPH_PTX";
  }
  program.output_count = outputs;
  program.local_count = static_cast<std::uint32_t>(reader.locals.size());
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
  std::uint64_t locals[kMostPtxLocals] = {};
  for (const PtxStep& step : instruction.program->steps) {
    if (step.guard >= 0 && (locals[step.guard] != 0) != step.guard_holds) continue;
    step.opcode->execute(PtxCall{instruction.program, &step, outputs, inputs, locals, instruction.site});
  }
}

std::size_t PtxCall::items() const { return step->items.size(); }
std::uint32_t PtxCall::number_of_name() const { return step->name_number; }

const Operand& PtxCall::operand(std::size_t item) const {
  const std::uint32_t i = step->items[item].index;
  return i < program->output_count ? outputs[i] : inputs[i - program->output_count];
}

std::uint32_t PtxCall::bits(std::size_t item) const {
  const Operand& x = operand(item);
  if (!is_output(x.kind)) return static_cast<std::uint32_t>(x.value);
  std::uint32_t value;
  std::memcpy(&value, x.address, sizeof value);
  return value;
}

std::uint64_t PtxCall::wide(std::size_t item) const {
  const PtxItem& i = step->items[item];
  if (i.kind == PtxItem::kLocal) return locals[i.index];
  const Operand& x = operand(item);
  if (!is_output(x.kind)) return x.value;
  std::uint64_t value;
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
  const PtxItem& x = step->items[item];
  if (x.kind == PtxItem::kNumber) return x.number;
  const OperandKind kind = operand(item).kind;
  return kind == OperandKind::kInN ? static_cast<std::int64_t>(operand(item).value)
                                   : static_cast<std::int64_t>(bits(item));
}

void* PtxCall::pointer(std::size_t item) const {
  const Operand& x = operand(item);
  std::byte* p = nullptr;
  if (x.kind == OperandKind::kInShared) {
    p = static_cast<std::byte*>(x.address);
  } else if (x.kind == OperandKind::kInL || x.kind == OperandKind::kIoL) {
    p = reinterpret_cast<std::byte*>(wide(item));
  } else {
    p = static_cast<std::byte*>(from_shared_window(bits(item), site));
  }
  return p + step->items[item].number;
}

void* PtxCall::variable(std::size_t item) const { return operand(item).address; }

void PtxCall::store(std::size_t item, std::uint32_t value) const {
  std::memcpy(operand(item).address, &value, sizeof value);
}

void PtxCall::store(std::size_t item, float value) const { std::memcpy(operand(item).address, &value, sizeof value); }

void PtxCall::store_wide(std::size_t item, std::uint64_t value) const {
  const PtxItem& i = step->items[item];
  if (i.kind == PtxItem::kNowhere) return;
  if (i.kind == PtxItem::kLocal) {
    locals[i.index] = value;
  } else {
    std::memcpy(operand(item).address, &value, sizeof value);
  }
}

}  // namespace ag::emu
