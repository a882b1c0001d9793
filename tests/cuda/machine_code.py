# SPDX-License-Identifier: Apache-2.0
"""Reads NVIDIA's machine code as nvdisasm prints it: instructions, flow of control, loops, what a loop's turn costs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PIPES = ("tensor", "fma", "special", "double", "memory", "other")

_PIPE_OF = (
    ("tensor", ("HMMA", "IMMA", "BMMA", "DMMA", "QMMA", "OMMA", "HGMMA", "UTC")),
    ("special", ("MUFU", "F2F", "F2I", "I2F", "FRND", "F2FP", "FCHK")),
    ("double", ("DADD", "DMUL", "DFMA", "DSETP", "DMNMX")),
    ("fma", ("FFMA", "FMUL", "FADD", "HFMA", "HADD", "HMUL", "IMAD", "FSWZADD")),
    ("memory", ("LD", "ST", "ATOM", "RED", "SHFL", "CCTL", "MEMBAR", "ERRBAR", "DEPBAR")),
)


def pipe_of(opcode: str) -> str:
    """The unit that executes an opcode: one of PIPES. Conversions run where the special functions do."""
    for pipe, prefixes in _PIPE_OF:
        if opcode.startswith(prefixes):
            return pipe
    return "other"


@dataclass
class Instruction:
    address: int
    opcode: str  # with its modifiers: HMMA.16816.F32
    operands: str
    predicated: bool

    @property
    def base(self) -> str:
        return self.opcode.split(".")[0]


@dataclass
class Block:
    instructions: list[Instruction] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)

    def count(self, test) -> int:
        return sum(1 for i in self.instructions if test(i))


def is_tensor(i: Instruction) -> bool:
    return pipe_of(i.opcode) == "tensor"


def is_exp2(i: Instruction) -> bool:
    return i.opcode.startswith("MUFU.EX2")


_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;?\s*$")
_LABEL = re.compile(r"^(\.L_\w+|\$?[\w$]+):\s*$")
_TARGET = re.compile(r"`\((\.L_\w+)\)")


class Kernel:
    """One function's code. `flow` holds its blocks in the order of their addresses; block 0 is the entry."""

    def __init__(self, name: str, lines: list[str]):
        self.name = name
        self.instructions: list[Instruction] = []
        labels: dict[str, int] = {}  # to the index of the instruction behind it
        for line in lines:
            found = _INSTRUCTION.match(line)
            if found:
                text = found.group(2)
                predicated = text.startswith("@")
                if predicated:
                    text = text.split(None, 1)[1]
                # nvdisasm pairs some instructions in braces.
                opcode, _, operands = text.strip("{} ").partition(" ")
                self.instructions.append(Instruction(int(found.group(1), 16), opcode, operands, predicated))
                continue
            found = _LABEL.match(line)
            if found:
                labels[found.group(1)] = len(self.instructions)
        self.flow = self._blocks(labels)

    def _blocks(self, labels: dict[str, int]) -> list[Block]:
        n = len(self.instructions)
        leaders = {0} | {at for at in labels.values() if at < n}
        edges: dict[int, list[int]] = {}  # of an instruction that ends a block: where it may go
        barrier: dict[str, int] = {}  # reconvergence point of a barrier register
        for at, i in enumerate(self.instructions):
            target = _TARGET.search(i.operands)
            to = labels.get(target.group(1)) if target else None
            if i.base == "BSSY" and to is not None:
                barrier[i.operands.split(",")[0].strip()] = to
                continue
            # CALL.REL.NOINC to a label of this function is a jump: ptxas leaves divergent regions of sm_80 so.
            if i.base in ("BRA", "JMP", "CALL") and to is not None:
                # An operand before the target is a predicate as well: BRA.U !UP0, `(.L_x_1)
                conditional = i.predicated or "," in i.operands
                edges[at] = [to] + ([at + 1] if conditional else [])
            elif i.base == "BSYNC":
                back = barrier.get(i.operands.split(",")[0].strip())
                edges[at] = [at + 1 if back is None else back] + ([at + 1] if i.predicated else [])
            elif i.base in ("EXIT", "RET", "BRX", "JMX"):
                edges[at] = [at + 1] if i.predicated else []
        leaders |= {at + 1 for at in edges if at + 1 < n}
        starts = sorted(leaders)
        index = {start: b for b, start in enumerate(starts)}
        blocks = []
        for b, start in enumerate(starts):
            end = starts[b + 1] if b + 1 < len(starts) else n
            block = Block(self.instructions[start:end])
            goes = edges.get(end - 1, [end])
            block.successors = sorted({index[to] for to in goes if to in index})
            blocks.append(block)
        return blocks

    def count(self, test) -> int:
        return sum(1 for i in self.instructions if test(i))

    # ---- loops ----

    def _dominators(self) -> list[int]:
        """Of each block the set, as bits, of the blocks that every way to it passes; 0 for unreachable ones."""
        order, seen, stack = [], {0}, [(0, iter(self.flow[0].successors))]
        while stack:
            b, successors = stack[-1]
            for s in successors:
                if s not in seen:
                    seen.add(s)
                    stack.append((s, iter(self.flow[s].successors)))
                    break
            else:
                order.append(b)
                stack.pop()
        order.reverse()
        before: dict[int, list[int]] = {b: [] for b in order}
        for b in order:
            for s in self.flow[b].successors:
                before[s].append(b)
        everything = sum(1 << b for b in order)
        sets = [0] * len(self.flow)
        for b in order:
            sets[b] = everything
        sets[0] = 1
        changed = True
        while changed:
            changed = False
            for b in order[1:]:
                common = everything
                for p in before[b]:
                    common &= sets[p]
                common |= 1 << b
                if common != sets[b]:
                    sets[b] = common
                    changed = True
        return sets

    def loops(self) -> list["Loop"]:
        """Natural loops, those of one header joined, innermost first."""
        if not self.flow:
            return []
        dominators = self._dominators()
        before: list[list[int]] = [[] for _ in self.flow]
        for b, block in enumerate(self.flow):
            for s in block.successors:
                before[s].append(b)
        bodies: dict[int, set[int]] = {}
        for b, block in enumerate(self.flow):
            for header in block.successors:
                if not dominators[b] >> header & 1:
                    continue  # not a back edge
                body = bodies.setdefault(header, {header})
                stack = [b]
                while stack:
                    x = stack.pop()
                    if x in body:
                        continue
                    body.add(x)
                    stack += [p for p in before[x] if dominators[p]]
        return sorted((Loop(self, h, body) for h, body in bodies.items()), key=lambda loop: len(loop.body))


class Loop:
    def __init__(self, kernel: Kernel, header: int, body: set[int]):
        self.kernel, self.header, self.body = kernel, header, body

    def count(self, test) -> int:
        return sum(self.kernel.flow[b].count(test) for b in self.body)

    def usual_turn(self, must) -> list[Block]:
        """The blocks of the turn that a loop usually makes: of all ways from the header back to it, those with the most
        instructions that `must` be executed (the products, the exponentials), and of them the shortest. What only
        candidates, new maxima or masks need lies beside it."""
        flow = self.kernel.flow
        order: list[int] = []
        state: dict[int, int] = {}
        inner_back: set[tuple[int, int]] = set()
        stack = [(self.header, iter([s for s in flow[self.header].successors if s in self.body]))]
        state[self.header] = 1
        while stack:
            b, successors = stack[-1]
            for s in successors:
                if state.get(s) == 1:
                    inner_back.add((b, s))
                elif s not in state:
                    state[s] = 1
                    stack.append((s, iter([x for x in flow[s].successors if x in self.body])))
                    break
            else:
                state[b] = 2
                order.append(b)
                stack.pop()
        # Longest in `must`, then shortest: from the latches (which go back to the header) upwards.
        best: dict[int, tuple[tuple[int, int], int | None]] = {}
        for b in order:
            own = (flow[b].count(must), -len(flow[b].instructions))
            choices: list[tuple[tuple[int, int], int | None]] = []
            if self.header in flow[b].successors:
                choices.append(((0, 0), None))
            for s in flow[b].successors:
                if s in self.body and s != self.header and (b, s) not in inner_back and s in best:
                    choices.append((best[s][0], s))
            if choices:
                value, to = max(choices, key=lambda c: c[0])
                best[b] = ((value[0] + own[0], value[1] + own[1]), to)
        path, at = [], self.header
        while at is not None and at in best:
            path.append(flow[at])
            at = best[at][1]
        return path


def by_pipe(blocks: list[Block]) -> dict[str, int]:
    counts = dict.fromkeys(PIPES, 0)
    for block in blocks:
        for i in block.instructions:
            if i.base != "NOP":
                counts[pipe_of(i.opcode)] += 1
    return counts


_SECTION = re.compile(r"^//-+\s+\.text\.(\S+)\s+-+")


def parse(text: str) -> dict[str, Kernel]:
    """Kernels by mangled name, of the output of `nvdisasm -c`."""
    kernels: dict[str, Kernel] = {}
    name, lines = None, []
    for line in text.splitlines():
        found = _SECTION.match(line)
        if found or line.startswith("//-----"):
            if name:
                kernels[name] = Kernel(name, lines)
            name, lines = (found.group(1) if found else None), []
        elif name:
            lines.append(line)
    if name:
        kernels[name] = Kernel(name, lines)
    return kernels
