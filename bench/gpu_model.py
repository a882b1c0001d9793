#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the CUDA kernels could reach at best, from the counts of their machine code and what is published of the devices.

usage: gpu_model.py                   the tables of docs/gpu.md
       gpu_model.py --check FILE      fails when FILE holds other tables
       gpu_model.py --write FILE      puts them there

No device has run any of this: the figures are limits, not measurements.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- gpu_model.py: {} -->", "<!-- end -->"


@dataclass
class Device:
    name: str
    architecture: int
    multiprocessors: int
    clock: float  # Hz, boost
    tensor: int  # f16 operations with f32 sums, per clock and multiprocessor, by mma.sync
    fma: int  # lanes of each unit, per clock and multiprocessor
    alu: int
    special: int
    memory: float  # bytes per second
    l2: int  # bytes per clock that L2 delivers to all multiprocessors

    def per_second(self, lanes):
        return lanes * self.multiprocessors * self.clock


# Boost clocks, units and memory: NVIDIA's architecture papers and data sheets. mma.sync on Hopper reaches 62 % of the
# matrix units, by published measurements (wgmma is needed for all); for B200 nothing is published: as Hopper.
DEVICES = (
    Device("A100 SXM", 80, 108, 1.41e9, 2048, 64, 64, 16, 2.04e12, 5120),
    Device("H100 SXM", 90, 132, 1.83e9, int(4096 * 0.62), 128, 64, 16, 3.35e12, 5632),
    Device("B200", 100, 148, 1.85e9, int(4096 * 0.62), 128, 64, 16, 8.0e12, 10240),
    Device("RTX 4090", 89, 128, 2.52e9, 512, 128, 64, 16, 1.01e12, 4096),
    Device("RTX 5090", 120, 170, 2.41e9, 512, 128, 64, 16, 1.79e12, 5120),
)
ISSUE = 128  # thread slots a multiprocessor issues each clock: four schedulers, a warp each


def si(value):
    return f"{value / 1e12:.2f}"


def kernels(head_dim, dtype="f16", variant="lean"):
    return [f"{name}_kernel<Shape<{dtype}, {head_dim}, {variant}>>" for name in ("row_sums", "row_edges")]


def both_passes(head_dim, dtype, architecture, budget):
    """Slots of a score in both passes together, or None where the budget does not know them."""
    entries = [budget["kernels"].get(name, {}).get(architecture) for name in kernels(head_dim, dtype)]
    if None in entries:
        return None
    slots = {}
    for entry in entries:
        for pipe, n in entry["slots"].items():
            slots[pipe] = slots.get(pipe, 0) + n
    return slots


def streaming_limits(device, head_dim, budget, dtype="f16"):
    """Scores per second that each resource allows to both passes, a block of 128 rows, long sequences."""
    products = 3 if dtype == "f32" else 1
    slots = both_passes(head_dim, dtype, str(device.architecture), budget)
    rows = 128
    limits = {
        "tensor": device.per_second(device.tensor) / (2 * 2 * head_dim * products),
        "2^x": device.per_second(device.special) / (slots.get("special", 1) if slots else 1),
        "L2": device.l2 * device.clock / (2 * 2 * head_dim * (2 if dtype == "f32" else 1) / rows),
    }
    if slots:
        limits["issue"] = device.per_second(ISSUE) / sum(slots.values())
        limits["fma"] = device.per_second(device.fma) / slots.get("fma", 1e-9)
        limits["alu"] = device.per_second(device.alu) / slots.get("other", 1e-9)
    return limits, slots is not None


def materialised_limits(device, head_dim, budget):
    """cuBLAS writes 4 bytes of f32 a score, the softmax kernel reads them once (a row's eight tiles stay in registers)
    or, in long rows, twice. Product and softmax run one after the other."""
    entry = budget["kernels"].get("softmax_rows_kernel<8, false, true>", {}).get(str(device.architecture))
    limits = {
        "tensor": device.per_second(device.tensor) / (2 * head_dim),
        "issue": device.per_second(ISSUE) / sum(entry["slots"].values()) if entry else None,
    }
    for rows, softmax_bytes in (("short", 4), ("long", 8)):
        product = max(1 / limits["tensor"], 4 / device.memory)
        softmax = max(softmax_bytes / device.memory, 1 / limits["issue"] if entry else 0)
        limits[rows] = 1 / (product + softmax)
    return limits


def streaming_table(budget):
    lines = ["| device | D | tensor | 2^x | issue | fma | alu | L2 | limit | set by |", "|---|---|---|---|---|---|---|---|---|---|"]
    for device in DEVICES:
        for head_dim in (64, 128):
            limits, known = streaming_limits(device, head_dim, budget)
            least = min(limits, key=limits.get)
            cells = [si(limits[k]) if k in limits else "–" for k in ("tensor", "2^x", "issue", "fma", "alu", "L2")]
            lines.append(f"| {device.name} | {head_dim} | " + " | ".join(cells) + f" | **{si(limits[least])}** | {least} |")
    return "\n".join(lines)


def materialised_table(budget):
    lines = ["| device | D | tensor | issue, softmax | limit, rows to 8,192 keys | limit, longer rows |",
             "|---|---|---|---|---|---|"]
    for device in DEVICES:
        for head_dim in (64, 128):
            limits = materialised_limits(device, head_dim, budget)
            cells = [si(limits[k]) if limits[k] else "–" for k in ("tensor", "issue")]
            cells += [f"**{si(limits[k])}**" for k in ("short", "long")]
            lines.append(f"| {device.name} | {head_dim} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def slots_table(budget):
    lines = ["| instance | sm | registers | blocks | tensor | fma | special | memory | other | sum | beside tensor |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, entries in sorted(budget["kernels"].items(), key=lambda e: sort_key(e[0])):
        for architecture, entry in sorted(entries.items(), key=lambda e: int(e[0])):
            if "slots" not in entry or architecture not in ("80", "90"):
                continue
            if "<bf16," in name and entry == budget["kernels"].get(name.replace("<bf16,", "<f16,"), {}).get(architecture):
                continue
            slots = entry["slots"]
            cells = [f"{slots.get(pipe, 0):.2f}" for pipe in ("tensor", "fma", "special", "memory")]
            cells.append(f"{slots.get('other', 0) + slots.get('double', 0):.2f}")
            total = sum(slots.values())
            words = re.search(r"Shape<(\w+), (\d+), (\w+)>", name)
            dtype = "f16, bf16" if words and words.group(1) == "f16" and same_as_bf16(budget, name, architecture) else None
            passes = "edges" if name.startswith("row_edges") else "sums"
            label = f"{passes} {dtype or words.group(1)} D {words.group(2)} {words.group(3)}" if words else f"`{name}`"
            lines.append(f"| {label} | {architecture} | {entry['registers']} | {entry['blocks']} | " + " | ".join(cells) +
                         f" | {total:.2f} | {total - slots.get('tensor', 0):.2f} |")
    return "\n".join(lines)


def same_as_bf16(budget, name, architecture):
    entries = budget["kernels"]
    return entries[name][architecture] == entries.get(name.replace("<f16,", "<bf16,"), {}).get(architecture)


def sort_key(name):
    words = re.search(r"Shape<(\w+), (\d+), (\w+)>", name)
    return (name.startswith("row_edges"), ("lean", "entropy", "general").index(words.group(3)), ("f16", "bf16", "f32").index(words.group(1)), int(words.group(2))) if words else (2,)


def tables():
    budget = json.loads((ROOT / "cuda/budget.json").read_text())
    return {"slots": slots_table(budget), "streaming": streaming_table(budget), "materialised": materialised_table(budget)}


def with_tables(text):
    for name, table in tables().items():
        begin = BEGIN.format(name)
        if begin not in text:
            raise SystemExit(f"gpu_model.py: the page has no place for the table {name}: {begin}")
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n{table}\n{END}{rest.partition(END)[2]}"
    return text


def main():
    if len(sys.argv) == 1:
        print("\n\n".join(tables().values()))
        return 0
    mode, path = sys.argv[1], Path(sys.argv[2])
    old = path.read_text()
    new = with_tables(old)
    if mode == "--write":
        path.write_text(new)
        return 0
    if new != old:
        print(f"{path} holds other tables than cuda/budget.json makes; run bench/gpu_model.py --write {path}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
