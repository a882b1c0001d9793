#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions per score of the hot loops, counted in the object code and held to a budget.

usage: count.py BUDGET OBJECT... [--objdump PROGRAM]

The loops are found in the disassembly of the kernels by what they must contain: a loop is the code from the target of a
backward jump to the jump, with no other loop inside. No clock is read, so no noise can move the figures: only the
compiler and the text of the kernels can. BUDGET is budget.txt; OBJECT are the object files of src/cpu. Prints one line a
loop; exits with 1 when one is over its budget or not there.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(r"^\s*([0-9a-f]+):\s+(?:\{\w+\} )?(\S+)\s*(.*)$")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
TARGET = re.compile(r"^([0-9a-f]+)\b")


@dataclass
class Instruction:
    address: int
    name: str
    operands: str


def functions(objdump, path):
    """name -> instructions, of an object file."""
    command = [objdump, "-d", "-C", "--no-show-raw-insn", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found, current = {}, None
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            current = found.setdefault(match[1], [])
        elif current is not None and (match := LINE.match(line)):
            current.append(Instruction(int(match[1], 16), match[2], match[3]))
    return found


def innermost_loops(code):
    """Lists of instructions from a backward jump's target to the jump, none of which holds another."""
    spans = []
    for place, jump in enumerate(code):
        target = TARGET.match(jump.operands)
        if jump.name.startswith("j") and target and int(target[1], 16) <= jump.address:
            begin = next((n for n, i in enumerate(code) if i.address == int(target[1], 16)), None)
            if begin is not None:
                spans.append((begin, place))
    inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [code[begin : end + 1] for begin, end in inner]


def count(loop, pattern):
    return sum(bool(re.match(pattern, i.name)) for i in loop)


def product_loops(code, step):
    """The loop of a product: `step` matches its multiply-adds. One of them serves a vector of scores, for one or two
    dimensions."""
    loops = [loop for loop in innermost_loops(code) if count(loop, step) >= 8]
    return [(len(loop), count(loop, step)) for loop in loops]


def sum_loops(code, extra):
    """The loop of exponentials, by five multiply-adds a vector for the polynomial and `extra` for the statistics."""
    loops = innermost_loops(code)
    found = []
    for loop in loops:
        fused, subtracted = count(loop, r"vfn?madd"), count(loop, r"vpslld|vpaddd")
        per_vector = 5 + extra
        if fused and fused % per_vector == 0 and subtracted and subtracted // 2 == fused // per_vector:
            found.append((len(loop), fused // per_vector))
    return found


def maximum_loops(code):
    found = []
    for loop in innermost_loops(code):
        if not count(loop, r"vfn?madd") and not count(loop, r"v?cmpps") and count(loop, r"vmaxps") >= 2:
            found.append((len(loop), count(loop, r"vmaxps")))
    return found


def hit_loops(code):
    """The loop that turns comparisons into bits: one vector a turn, or several, each with its comparison."""
    found = []
    for loop in innermost_loops(code):
        compared = count(loop, r"vcmp\w*ps")
        if compared and not count(loop, r"vfn?madd|vaddps|vmaxps|vminps") and count(loop, r"kmov|vmovmskps"):
            found.append((len(loop), compared))
    return found


KINDS = {
    "product": lambda code: product_loops(code, r"vfn?madd\d+ps"),
    "product_bf16": lambda code: product_loops(code, r"vdpbf16ps"),
    "maximum": maximum_loops,
    "sum": lambda code: sum_loops(code, 0),
    "sum_entropy": lambda code: sum_loops(code, 1),
    "hits": hit_loops,
}
# Dimensions that one multiply-add of a product serves.
DIMENSIONS = {"product": 1, "product_bf16": 2}
HEAD_DIM = 64


def measure(functions_of, function, kind, lanes):
    """Instructions per score of the worst loop of that kind; None when there is none."""
    worst = None
    for name, code in functions_of.items():
        if not re.search(function, name):
            continue
        for instructions, vectors in KINDS[kind](code):
            per_score = instructions / vectors / lanes
            per_score *= HEAD_DIM / DIMENSIONS[kind] if kind in DIMENSIONS else 1
            worst = max(worst or 0, per_score)
    return worst


def read_budget(path):
    """Rows of: target, loop, function (a regular expression), kind, lanes, most instructions per score."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            target, loop, function, kind, lanes, most = line.split()
            rows.append((target, loop, function, kind, int(lanes), float(most)))
    return rows


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("budget")
    parser.add_argument("objects", nargs="+")
    parser.add_argument("--objdump", default="objdump")
    options = parser.parse_args(arguments)
    found = {}
    for path in options.objects:
        found.update(functions(options.objdump, path))
    breaches = 0
    print(f"{'target':<12} {'loop':<14} {'per score':>9} {'budget':>9}   (a product's at D = {HEAD_DIM})")
    for target, loop, function, kind, lanes, most in read_budget(options.budget):
        value = measure(found, function, kind, lanes)
        verdict = "not found" if value is None else "over budget" if value > most else ""
        breaches += bool(verdict)
        print(f"{target:<12} {loop:<14} {'-' if value is None else f'{value:.3f}':>9} {most:>9.3f}   {verdict}".rstrip())
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
