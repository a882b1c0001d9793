#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the machine code of the CUDA plugin to cuda/budget.json.

Reads the plugin that was built: registers, shared memory and local memory of every kernel and architecture, its
instructions, how many blocks a multiprocessor holds, and, for kernels with a loop over scores, what a score costs in
issue slots by execution unit. Prints the table; a breach is named and fails. It says nothing of speed on a device: it
keeps what is known without one.

exit status: 0 kept, 1 breached, 2 wrong use, 77 a tool is missing (and says which)
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine_code  # noqa: E402

SKIPPED = 77
DTYPES = {1: "f64", 2: "f32", 3: "f16", 4: "bf16"}
VARIANTS = {0: "lean", 1: "general", 2: "entropy"}
PASSES = {0: "statistics", 1: "edges", 2: "entropy"}
MORE_INSTRUCTIONS = 0.05  # of a kernel as a whole
MORE_SLOTS = 0.05  # of a score, by pipe, absolute
# Edges of sm_90a: hits of a warp in a tile of 16 x 128 scores, when a row of 16,384 keys has 8.4 edges as in heads of
# models. Behind the first vote are eight groups of scores, of which a hit goes through one, and the loops that write: a hit
# is taken for an eighth of all code beside the usual turn, that of masked tiles included, which is rather too much; and
# for the votes of the groups, its own for the largest score and its row's.
HITS, PARTS, VOTES = 16 * 128 * 8.4 / 16384, 8, 8 * 2 + 2 * 2


@dataclass
class Facts:
    """Of one kernel on one architecture."""

    registers: int
    shared: int  # static bytes, without what the architecture keeps for itself
    stack: int  # stack and local bytes
    threads: int
    instructions: int
    tensor: int
    local: int  # instructions that touch local memory: spills and indexed arrays
    slots: dict[str, float] | None = None  # issue slots of a score by pipe
    slots_all: float = 0.0  # of the whole loop, rare paths counted as if they ran once a turn
    slots_with_hits: float = 0.0  # edges of sm_90a: at the rate of hits that heads of models have
    blocks: int = 0
    dynamic: int = 0


def find_tool(name: str, given: str | None) -> str | None:
    """Where NVIDIA's tool is: as given, on PATH, in a toolkit, or in a package of Python's."""
    if given:
        return given if os.access(given, os.X_OK) else None
    folders = [Path(p) / "bin" for p in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if p]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("ATTNGRAPH_CUDA_ROOT") or cache / "attngraph/cuda-13.0")
    folders += [root / "bin", root.parent / "cuda-tools/bin"]  # as scripts/cuda-toolkit has them
    spec = importlib.util.find_spec("nvidia")
    for location in (spec.submodule_search_locations or []) if spec else []:
        folders += sorted(Path(location).glob("cu*/bin"))
    found = shutil.which(name)
    for folder in folders:
        if not found and os.access(folder / name, os.X_OK):
            found = str(folder / name)
    return found


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def short_name(demangled: str) -> str | None:
    """`rows_f64_kernel<f16>` for our kernels; None for a library's."""
    if not re.search(r"\bag::cuda::", demangled.split("(anonymous")[0].split("<")[0]):
        return None
    name = demangled.replace("(anonymous namespace)::", "").replace("ag::cuda::", "")
    name = re.sub(r"^void ", "", name)
    name = re.sub(r"\(ag::DType\)(\d+)", lambda m: DTYPES.get(int(m.group(1)), m.group(0)), name)
    name = re.sub(r"\((?:ag::cuda::)?Variant\)(\d+)", lambda m: VARIANTS.get(int(m.group(1)), m.group(0)), name)
    name = re.sub(r"\((?:ag::cuda::)?WgmmaPass\)(\d+)", lambda m: PASSES.get(int(m.group(1)), m.group(0)), name)
    depth = 0
    for at, char in enumerate(name):  # up to the parameter list
        depth += (char == "<") - (char == ">")
        if char == "(" and depth == 0 and not name[at:].startswith(("(bool)", "(int)")):
            name = name[:at]
            break
    name = name.replace("(bool)1", "true").replace("(bool)0", "false")
    return re.sub(r"\(\w[\w:]*\)(?=-?\d)", "", name).replace("> >", ">>").strip()


def usual_slots(loop: machine_code.Loop, scores: int, must) -> tuple[dict[str, float], float]:
    turn = machine_code.by_pipe(loop.usual_turn(must))
    everything = sum(machine_code.by_pipe([loop.kernel.flow[b] for b in loop.body]).values())
    return {pipe: n / scores for pipe, n in turn.items()}, everything / scores


def fused_slots(kernel: machine_code.Kernel, scores: int) -> tuple[dict[str, float], float] | None:
    """Slots of a score in the innermost loop that has all products, and the exponentials where there are some."""
    exponentials = kernel.count(machine_code.is_exp2)

    def must(i: machine_code.Instruction) -> bool:
        return machine_code.is_tensor(i) or machine_code.is_exp2(i)

    products = kernel.count(machine_code.is_tensor)
    for loop in kernel.loops():
        if loop.count(machine_code.is_tensor) == products and (loop.count(machine_code.is_exp2) or not exponentials):
            return usual_slots(loop, scores, must)
    return None


def wgmma_slots(kernel: machine_code.Kernel, scores: int) -> tuple[dict[str, float], float] | None:
    """Slots of a score in the loop over tiles of the sm_90a kernels: the shortest turn with all products and the largest
    of all scores. References that move and hits lie beside it; edge_slots counts the latter."""

    def must(i: machine_code.Instruction) -> bool:
        return machine_code.is_tensor(i) or i.base == "VIMNMX3"

    products = kernel.count(machine_code.is_tensor)
    for loop in kernel.loops():
        if loop.count(machine_code.is_tensor) == products:
            return usual_slots(loop, scores, must)
    return None


def softmax_slots(kernel: machine_code.Kernel) -> tuple[dict[str, float], float] | None:
    """Slots of a score in the two loops of softmax_rows, four scores a thread: sums, which has exponentials, and cut,
    which counts bits (its exponentials are those of dense weights, rarely wanted)."""

    def counts(i: machine_code.Instruction) -> bool:
        return i.base == "POPC"

    loops = kernel.loops()
    sums = next((loop for loop in loops if loop.count(machine_code.is_exp2) and not loop.count(counts)), None)
    cut = next((loop for loop in loops if loop.count(counts)), None)
    if sums is None or cut is None:
        return None
    first, first_all = usual_slots(sums, 4, machine_code.is_exp2)
    second, second_all = usual_slots(cut, 4, counts)
    return {pipe: first[pipe] + second[pipe] for pipe in first}, first_all + second_all


def read_cubin(path: Path, tools: dict[str, str], shapes: dict[str, tuple[int, int, int]]) -> dict[str, Facts]:
    architecture = int(re.search(r"sm_(\d+)", path.name).group(1))
    usage = run(tools["cuobjdump"], "-res-usage", str(path))
    resources: dict[str, dict[str, int]] = {}
    for name, line in re.findall(r"Function (\S+):\s*\n\s*(REG:.*)", usage):
        resources[name] = {key: int(value) for key, value in re.findall(r"\b([A-Z]+):(\d+)", line)}
    if not resources:
        return {}
    names = dict(zip(resources, run("c++filt", *resources).splitlines()))
    ours = {mangled: short_name(demangled) for mangled, demangled in names.items()}
    if not any(ours.values()):
        return {}
    threads = {}
    elf = run(tools["cuobjdump"], "-elf", str(path))
    for section in re.split(r"^(?=\.nv\.info\.)", elf, flags=re.M)[1:]:
        found = re.search(r"EIATTR_MAX_THREADS\s+Format:\s+\S+\s+Value:\s+0x([0-9a-f]+)", section)
        if found:
            threads[section.split()[0].removeprefix(".nv.info.")] = int(found.group(1), 16)
    code = machine_code.parse(run(tools["nvdisasm"], "-c", str(path)))
    facts = {}
    for mangled, name in ours.items():
        if name is None or mangled not in code:
            continue
        kernel, used = code[mangled], resources[mangled]
        made = Facts(
            registers=used["REG"],
            shared=used["SHARED"] - (1024 if architecture >= 90 and used["SHARED"] >= 1024 else 0),
            stack=used["STACK"] + used.get("LOCAL", 0),
            threads=threads.get(mangled, 0),
            instructions=sum(1 for i in kernel.instructions if i.base != "NOP"),
            tensor=kernel.count(machine_code.is_tensor),
            local=kernel.count(lambda i: i.base in ("LDL", "STL")),
        )
        found = None
        if name in shapes:
            made.threads, made.dynamic, scores = shapes[name]
            found = (wgmma_slots if name.startswith("wgmma_kernel") else fused_slots)(kernel, scores)
        elif name.startswith("softmax_rows_kernel"):
            found = softmax_slots(kernel)
        if found:
            made.slots, made.slots_all = found
            if re.match(r"wgmma_kernel<.*edges>$", name):
                usual = sum(made.slots.values())
                scores = shapes[name][2]
                made.slots_with_hits = usual + HITS * ((made.slots_all - usual) / PARTS + VOTES / scores)
        facts[name] = made
    return facts


def read_plugin(plugin: Path, tools: dict[str, str], facts_program: str) -> dict[int, dict[str, Facts]]:
    """Facts by architecture and kernel."""
    shapes = {}
    for line in run(facts_program, "shapes").splitlines():
        name, threads, dynamic, scores = line.rsplit(" ", 3)
        shapes[name] = (int(threads), int(dynamic), int(scores))
    by_architecture: dict[int, dict[str, Facts]] = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([tools["cuobjdump"], "-xelf", "all", str(plugin.resolve())], cwd=folder, check=True,
                       capture_output=True)
        cubins = sorted(Path(folder).glob("*.cubin"))
        with ThreadPoolExecutor() as pool:
            for path, facts in zip(cubins, pool.map(lambda c: read_cubin(c, tools, shapes), cubins)):
                architecture = int(re.search(r"sm_(\d+)", path.name).group(1))
                by_architecture.setdefault(architecture, {}).update(facts)
    asked = [(a, f) for a, kernels in by_architecture.items() for f in kernels.values() if f.threads]
    lines = "".join(f"{a} {f.threads} {f.registers} {f.shared + f.dynamic}\n" for a, f in asked)
    answers = subprocess.run([facts_program, "occupancy"], input=lines, check=True, capture_output=True, text=True)
    for (_, facts), blocks in zip(asked, answers.stdout.split()):
        facts.blocks = int(blocks)
    return by_architecture


def as_json(facts: Facts) -> dict:
    entry = {"registers": facts.registers, "shared": facts.shared, "instructions": facts.instructions,
             "tensor": facts.tensor, "blocks": facts.blocks}
    if facts.slots:
        entry["slots"] = {pipe: round(n, 3) for pipe, n in facts.slots.items() if n}
    if facts.slots_with_hits:
        entry["slots_with_hits"] = round(facts.slots_with_hits, 3)
    return entry


def breaches(name: str, architecture: int, facts: Facts, budget: dict | None, same_compiler: bool,
             limits: dict[str, dict]) -> list[str]:
    where = f"{name} on sm_{architecture}"
    found = []
    if facts.local or facts.stack:
        found.append(f"{where}: {facts.local} instructions touch local memory and the stack has {facts.stack} bytes; "
                     "neither is allowed")
    for pattern, limit in limits.items():
        if not re.fullmatch(pattern, name):
            continue
        if "blocks" in limit and facts.blocks < limit["blocks"]:
            found.append(f"{where}: {facts.blocks} blocks a multiprocessor; at least {limit['blocks']} are required")
        if "slots_beside_tensor" in limit:
            if not facts.slots:
                found.append(f"{where}: no loop over keys was found in its code")
            else:
                beside = sum(n for pipe, n in facts.slots.items() if pipe != "tensor")
                if beside > limit["slots_beside_tensor"]:
                    found.append(f"{where}: {beside:.2f} issue slots a score beside tensor instructions; "
                                 f"{limit['slots_beside_tensor']} are the limit")
    if budget is None:
        return found + [f"{where}: not in the budget; if it is meant to be there, run budget.py --update"]
    if facts.tensor != budget["tensor"]:
        found.append(f"{where}: {facts.tensor} tensor-core instructions; the budget says exactly {budget['tensor']}")
    if not same_compiler:
        return found  # another compiler allocates otherwise
    if facts.registers > budget["registers"]:
        found.append(f"{where}: {facts.registers} registers; the budget is {budget['registers']}")
    if facts.shared > budget["shared"]:
        found.append(f"{where}: {facts.shared} bytes of static shared memory; the budget is {budget['shared']}")
    if facts.blocks < budget["blocks"]:
        found.append(f"{where}: {facts.blocks} blocks a multiprocessor; the budget is {budget['blocks']}")
    if abs(facts.instructions - budget["instructions"]) > MORE_INSTRUCTIONS * budget["instructions"]:
        found.append(f"{where}: {facts.instructions} instructions; the budget is {budget['instructions']} within "
                     f"{MORE_INSTRUCTIONS:.0%}")
    if facts.slots_with_hits > budget.get("slots_with_hits", facts.slots_with_hits) + 2 * MORE_SLOTS:
        found.append(f"{where}: {facts.slots_with_hits:.2f} slots a score with the hits of real heads; the budget is "
                     f"{budget['slots_with_hits']:.2f}")
    for pipe, limit in budget.get("slots", {}).items():
        actual = (facts.slots or {}).get(pipe)
        if actual is None:
            found.append(f"{where}: no loop over keys was found in its code; the budget knows one")
            break
        if actual > limit + MORE_SLOTS:
            found.append(f"{where}: {actual:.2f} {pipe} slots a score; the budget is {limit:.2f}")
    return found


def print_table(by_architecture: dict[int, dict[str, Facts]]) -> None:
    for architecture, kernels in sorted(by_architecture.items()):
        print(f"\nsm_{architecture}")
        print(f"{'kernel':58} {'regs':>4} {'static':>6} {'dyn':>6} {'blk':>3} {'instr':>6} {'mma':>5}   "
              "slots a score: tensor   fma  spec   mem other   sum  (all)")
        for name, f in sorted(kernels.items()):
            blocks = f.blocks if f.threads else "-"
            line = f"{name:58} {f.registers:4} {f.shared:6} {f.dynamic:6} {blocks:>3} {f.instructions:6} {f.tensor:5}"
            if f.slots:
                s = f.slots
                line += (f"   {'':14} {s['tensor']:6.2f} {s['fma']:5.2f} {s['special']:5.2f} {s['memory']:5.2f} "
                         f"{s['other'] + s['double']:5.2f} {sum(s.values()):5.2f} {f.slots_all:6.2f}")
            print(line)


def write_budget(path: Path, compiler: str, by_architecture: dict[int, dict[str, Facts]], old: dict) -> None:
    kernels: dict[str, dict] = {name: dict(entries) for name, entries in old.get("kernels", {}).items()}
    for architecture, facts in by_architecture.items():
        for name in list(kernels):
            if name not in facts:
                kernels[name].pop(str(architecture), None)
        for name, f in facts.items():
            kernels.setdefault(name, {})[str(architecture)] = as_json(f)
    lines = ["{", f'  "compiler": {json.dumps(compiler)},', f'  "limits": {json.dumps(old.get("limits", {}))},',
             '  "kernels": {']
    names = [name for name in sorted(kernels) if kernels[name]]
    for n, name in enumerate(names):
        lines.append(f"    {json.dumps(name)}: {{")
        entries = sorted(kernels[name].items(), key=lambda e: int(e[0]))
        for m, (architecture, entry) in enumerate(entries):
            comma = "," if m + 1 < len(entries) else ""
            lines.append(f"      {json.dumps(architecture)}: {json.dumps(entry)}{comma}")
        lines.append("    }" + ("," if n + 1 < len(names) else ""))
    lines += ["  }", "}"]
    path.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugin", type=Path, required=True, help="libattngraph_cuda.so")
    parser.add_argument("--facts", required=True, help="the program kernel_facts")
    parser.add_argument("--budget", type=Path, default=Path(__file__).resolve().parents[2] / "cuda/budget.json")
    parser.add_argument("--compiler", default="", help="version of nvcc, as 13.0")
    parser.add_argument("--architectures", default="80 90", help="those that the plugin has to hold")
    parser.add_argument("--cuobjdump")
    parser.add_argument("--nvdisasm")
    parser.add_argument("--update", action="store_true", help="write what was found into the budget")
    arguments = parser.parse_args()

    tools = {}
    for name in ("cuobjdump", "nvdisasm"):
        tool = find_tool(name, getattr(arguments, name))
        if tool is None:
            print(f"budget: {name} is missing; scripts/cuda-toolkit brings it (PyPI: nvidia-cuda-{name})")
            return SKIPPED
        tools[name] = tool
    if not arguments.plugin.is_file():
        print(f"budget: there is no plugin {arguments.plugin}; the build has no CUDA")
        return SKIPPED
    by_architecture = read_plugin(arguments.plugin, tools, arguments.facts)
    print_table(by_architecture)

    budget = json.loads(arguments.budget.read_text()) if arguments.budget.is_file() else {}
    if arguments.update:
        write_budget(arguments.budget, arguments.compiler, by_architecture, budget)
        print(f"\nbudget: {arguments.budget} is written")
        return 0
    same_compiler = not arguments.compiler or budget.get("compiler") == arguments.compiler
    if not same_compiler:
        print(f"\nbudget: made with nvcc {budget.get('compiler')}, this is {arguments.compiler}: only local memory, "
              "tensor-core instructions and limits are held")
    found = []
    for architecture in (int(a) for a in re.findall(r"\d+", arguments.architectures)):
        kernels = by_architecture.get(architecture)
        if not kernels:
            found.append(f"the plugin holds nothing for sm_{architecture}")
            continue
        for name, facts in sorted(kernels.items()):
            entry = budget.get("kernels", {}).get(name, {}).get(str(architecture))
            found += breaches(name, architecture, facts, entry, same_compiler, budget.get("limits", {}))
        for name, entries in budget.get("kernels", {}).items():
            if str(architecture) in entries and name not in kernels:
                found.append(f"{name} on sm_{architecture}: in the budget, but not in the plugin")
    print()
    for breach in found:
        print(f"budget: {breach}")
    print(f"budget: {len(found)} breaches")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
