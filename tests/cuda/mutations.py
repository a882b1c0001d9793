#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the kernels on purpose, one place at a time, and says which test finds it.

usage: mutations.py BUILD [--only WORD] [--write FILE] [--jobs N]

BUILD is a build folder with cuda_tests and cuda_checker_tests (the kernels' tests on the emulator, and the same under
its checker). Each mutation is applied to a copy of cuda/, its translation units are compiled as the build compiles them,
linked in place of the originals, and run: first the tests under five schedules, then, if they pass, under the checker of
races and unwritten memory. A mutation that nothing finds is a hole in the tests: exit status 1.
--write puts the table into a page, between its marks.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- mutations.py -->", "<!-- end -->"
LEAN = ("streaming/lean_f16.cu",)
LEAN_SPLIT = ("streaming/lean_f32.cu",)
LEAN_ALL = tuple(f"streaming/lean_{dtype}.cu" for dtype in ("f16", "bf16", "f32"))
GENERAL_ALL = tuple(f"streaming/general_{dtype}.cu" for dtype in ("f16", "bf16", "f32"))
FUSED = "AttentionEdges*"


@dataclass(frozen=True)
class Mutation:
    what: str  # for the table
    file: str  # below cuda/
    old: str
    new: str
    units: tuple[str, ...] = ()  # translation units to compile; the file itself when empty
    tests: str = "*"  # filter of GoogleTest
    occurrence: int = 1  # of `old` in the file


# Only such as change an answer or an order of memory. `>` for `>=` at a cut, say, is none: the band's margin lies below
# the cut, and finish_rows decides; nor is copying keys past the length, which are masked.
MUTATIONS = (
    # cuda_streaming: copies, barriers, buffers
    Mutation("the barrier of a tile is dropped", "streaming/attention_edges.cuh",
             "    cp_async_wait<0>();\n    __syncthreads();\n    if (visit + 1", "    cp_async_wait<0>();\n    if (visit + 1",
             LEAN, FUSED),
    Mutation("a tile is read before its copies are waited for", "streaming/attention_edges.cuh",
             "    cp_async_wait<0>();\n    __syncthreads();\n    if (visit + 1", "    __syncthreads();\n    if (visit + 1",
             LEAN, FUSED),
    Mutation("the wait leaves one group on its way", "streaming/attention_edges.cuh",
             "    cp_async_wait<0>();\n    __syncthreads();\n    if (visit + 1",
             "    cp_async_wait<1>();\n    __syncthreads();\n    if (visit + 1", LEAN, FUSED),
    Mutation("the next tile is copied into the buffer in use", "streaming/attention_edges.cuh",
             "start_tile(order.tile(visit + 1), (visit + 1) % 2)", "start_tile(order.tile(visit + 1), visit % 2)", LEAN, FUSED),
    Mutation("the last tile of keys is lost", "streaming/attention_edges.cuh",
             "visit < order.count; ++visit", "visit + 1 < order.count; ++visit", LEAN, FUSED),
    Mutation("the row table is read before it is filled", "streaming/attention_edges.cuh",
             "  __syncthreads();\n\n  const int first_row = warp * S::kWarpRows;", "  const int first_row = warp * S::kWarpRows;",
             LEAN, FUSED),
    # products
    Mutation("two fragments of the keys are exchanged", "streaming/tiles.cuh",
             "      keys[n][0] = four[0];\n      keys[n][1] = four[1];", "      keys[n][0] = four[1];\n      keys[n][1] = four[0];",
             LEAN, FUSED),
    Mutation("query registers of the two halves are exchanged", "streaming/tiles.cuh",
             "slot % 2 + 2 * (n % 2)", "slot % 2 * 2 + n % 2", LEAN, FUSED),
    Mutation("the swizzle's period is wrong", "streaming/swizzle.cuh",
             "static constexpr int kPeriod = 8 / kGroup;", "static constexpr int kPeriod = 2;", LEAN, FUSED),
    Mutation("reads and writes disagree about the swizzle", "streaming/tiles.cuh",
             "Swizzle<S::kChunks>::flip(lane % 8);", "Swizzle<S::kChunks>::flip(lane % 8 + 1);", LEAN, FUSED),
    Mutation("the low parts of the keys are left out", "streaming/tiles.cuh",
             "          multiply(scores[m][n], query[0], keys[1][n]);\n", "", LEAN_SPLIT, FUSED),
    Mutation("the last step along D is lost", "streaming/tiles.cuh",
             "if constexpr (kK + 1 < S::kDepth)", "if constexpr (kK + 2 < S::kDepth)", LEAN, FUSED),
    # masks
    Mutation("the diagonal is masked: <= for <", "common/key_range.hpp",
             "position + 1 < end) end = position + 1;", "position < end) end = position;", LEAN, FUSED),
    Mutation("a window is one key too wide", "common/key_range.hpp",
             "begin = position - mask.window + 1;", "begin = position - mask.window;", LEAN, FUSED),
    Mutation("the step at a mask's edge counts as unmasked", "streaming/attention_edges.cuh",
             "first_key + S::kStep > range.all_end", "first_key > range.all_end", LEAN, FUSED),
    Mutation("bad keys are not masked", "streaming/attention_edges.cuh",
             "a.chunk.mask.bad_keys != nullptr);", "false);", LEAN_ALL, FUSED),
    Mutation("softcap is left out", "streaming/masking.cuh", "if (a.softcap > 0.0f)", "if (false)", GENERAL_ALL, FUSED),
    # online softmax and threshold
    Mutation("the sum is not rescaled when the reference moves", "streaming/row_slots.cuh",
             "    sum[s] *= factor;\n", "", LEAN, FUSED),
    Mutation("the tile's sum is not rescaled", "streaming/row_slots.cuh", "    tile[s] *= factor;\n", "", LEAN, FUSED),
    Mutation("the correction of the sum is not rescaled", "streaming/row_slots.cuh", "    rest[s] *= factor;\n", "", LEAN, FUSED),
    Mutation("a maximum stays stale", "streaming/standouts.cuh", "    slots.top[s] = largest;\n", "", LEAN, FUSED),
    Mutation("of equal keys the last is the maximum", "streaming/standouts.cuh",
             "key < slots.max_key))", "key > slots.max_key))", LEAN, FUSED),
    Mutation("the band raises the cut", "streaming/standouts.cuh",
             "log2_sum + (a.log2_threshold - margin)", "log2_sum + (a.log2_threshold + margin)", LEAN_ALL, FUSED),
    Mutation("the rough logarithm is too large", "streaming/row_slots.cuh", "-127.0f) - 0x1p-16f;", "-126.0f) - 0x1p-16f;",
             LEAN, FUSED),
    Mutation("a full buffer is not compacted", "streaming/standouts.cuh",
             "    if (__any_sync(kAllLanes, full)) make_room(slots, full);\n", "", LEAN, FUSED),
    Mutation("a candidate at the edge of the capacity is lost", "streaming/standouts.cuh",
             "n < a.candidates.capacity)", "n + 1 < a.candidates.capacity)", LEAN, FUSED),
    Mutation("a candidate is written beyond the capacity", "streaming/standouts.cuh",
             "(bits >> k & 1) != 0 && n < a.candidates.capacity", "(bits >> k & 1) != 0", LEAN, FUSED),
    Mutation("compaction overwrites what it has not read", "streaming/standouts.cuh",
             "      __syncwarp();  // all have read before any writes; later chunks are never written before they are read\n", "",
             LEAN, FUSED),
    Mutation("splits overlap by a tile", "streaming/attention_edges.cuh",
             "first + tiles * (split + 1) / a.states.splits;", "first + tiles * (split + 1) / a.states.splits + (split == 0);",
             LEAN, FUSED),
    # cuda_materialised
    Mutation("the reference is not moved with the sum", "materialised/softmax_rows.cu", "  p.sum *= scale;\n", "",
             (), "SoftmaxRows*"),
    Mutation("warps merge before all have written", "materialised/softmax_rows.cu",
             "    __syncthreads();\n    p = s_partials[0];", "    p = s_partials[0];", (), "SoftmaxRows*"),
    Mutation("the last partial tile of scores is dropped", "materialised/softmax_rows.cu",
             "(scores.end + kTile - 1) / kTile", "scores.end / kTile", (), "SoftmaxRows*"),
    Mutation("ranks of bits count their own word", "materialised/compact_bits.cuh", "place + (before - own);", "place + before;",
             ("materialised/compact_ballot.cu",), "Compact*"),
    Mutation("a warp's bits begin at its neighbour's", "materialised/compact_bits.cuh",
             "for (int w = 0; w < team.warp; ++w)", "for (int w = 0; w + 1 < team.warp; ++w)",
             ("materialised/compact_ballot.cu",), "Compact*"),
    # the stages that both share
    Mutation("the scan forgets its carry", "common/exclusive_scan.cu", "    carry += total;\n", "", (), "ExclusiveScan*"),
    Mutation("the scan is inclusive", "common/exclusive_scan.cu", "return before + inclusive - x;", "return before + inclusive;",
             (), "ExclusiveScan*"),
    Mutation("sums of the scan's warps are read too early", "common/exclusive_scan.cu",
             "  __syncthreads();\n  std::int64_t before = 0;", "  std::int64_t before = 0;", (), "ExclusiveScan*"),
    Mutation("sums of the scan's warps are overwritten too early", "common/exclusive_scan.cu",
             "  __syncthreads();  // s_sums is free for the next scan\n", "", (), "ExclusiveScan*"),
    Mutation("the two runs of a row are not exchanged", "common/copy_edges.cu", "rank - first_run : rank + second_run",
             "rank : rank", (), "CopyEdges*"),
    Mutation("a turn between batches of 32 is not seen", "common/copy_edges.cu",
             "      if (before == 0) previous = last_key;\n", "", (), "CopyEdges*"),
    Mutation("the tie rule is left out", "common/finish_rows.cu",
             "const bool may_be_uniform = tally.all_equal &&", "const bool may_be_uniform = false && tally.all_equal &&", (),
             "RowsF64.Ties*:FinishRows*"),
    Mutation("a sum of splits takes the wrong reference", "common/finish_rows.cu",
             "states.reference[n] > merged.reference)", "states.reference[n] < merged.reference)", (), "FinishRows*"),
    Mutation("candidates of the second split are not decided", "common/finish_rows.cu",
             "  for (int s = 0; s < splits; ++s) {\n    const CandidateRow place", "  for (int s = 0; s < 1; ++s) {\n    const CandidateRow place",
             (), "FinishRows*"),
    Mutation("the sink is left out of the denominator", "common/finish_rows.cu", "log_add(own_rest, sink - reference);",
             "own_rest;", (), "FinishRows*:RowsF64*"),
    Mutation("a margin of exactly the band is not counted", "common/finish_rows.cu",
             "tally.borderline += fabs(margin) <= eps;", "tally.borderline += fabs(margin) < 0.5 * eps;", (), "FinishRows*"),
    Mutation("the first fault of a mask is the last", "common/inspect_mask.cu", "atomicMax(&fault->inverse_place, ~",
             "atomicMax(&fault->inverse_place, ", (), "InspectMask*"),
    Mutation("infinity counts as finite", "common/inspect_rows.cu", "x < infinity_f64()", "x <= infinity_f64()", (), "InspectRows*"),
    Mutation("the low part of f32 is dropped", "common/prepare_operands.cu", "__float2half_rn(scaled - __half2float(high))",
             "__float2half_rn(0.0f)", (), "*Operands*"),
    Mutation("padding is not zeroed", "common/prepare_operands.cu", "d < dim ? static_cast<const std::uint16_t*>(rows.data)[index] : std::uint16_t{0}",
             "static_cast<const std::uint16_t*>(rows.data)[index]", (), "*Operands*"),
    Mutation("keys of a tile are overwritten while they are read", "common/score_f64.cuh",
             "    __syncthreads();\n  }\n  return add_partials(partials);", "  }\n  return add_partials(partials);",
             ("common/rows_f64.cu",), "RowsF64*"),
    Mutation("distances are off by one", "common/sums.cu", "const int slot = warp + 31 - lane;", "const int slot = warp + 30 - lane;",
             (), "RowsF64*"),
)


class Build:
    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        commands = json.loads((self.folder / "compile_commands.json").read_text())
        self.compile: dict[tuple[str, bool], str] = {}
        for entry in commands:
            source = Path(entry["file"]).resolve()
            if ROOT / "cuda" not in source.parents:
                continue
            for target, checked in (("attngraph_cuda_emulated_objects", False), ("attngraph_cuda_checked_objects", True)):
                if f"/{target}.dir/" in entry["command"]:
                    self.compile[(str(source.relative_to(ROOT / "cuda")), checked)] = entry["command"]
        self.link = {checked: self._link_command(name) for name, checked in (("cuda_tests", False), ("cuda_checker_tests", True))}

    def _link_command(self, program: str) -> str:
        lines = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", program], check=True, capture_output=True,
                               text=True).stdout.splitlines()
        return next(line for line in reversed(lines) if f" -o {program} " in line)


def mutated_tree(mutation: Mutation, folder: Path) -> None:
    shutil.copytree(ROOT / "cuda", folder / "cuda")
    for name in ("src", "tests", "include"):
        (folder / name).symlink_to(ROOT / name)
    path = folder / "cuda" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) < mutation.occurrence:
        raise SystemExit(f"mutations.py: '{mutation.what}': {mutation.file} no longer has\n{mutation.old}")
    parts = text.split(mutation.old)
    at = mutation.occurrence
    path.write_text(mutation.old.join(parts[:at]) + mutation.new + mutation.old.join(parts[at:]))


def build_mutant(build: Build, mutation: Mutation, folder: Path, checked: bool) -> Path:
    objects = []
    for unit in mutation.units or (mutation.file,):
        command = shlex.split(build.compile[(unit, checked)])
        original = str(ROOT / "cuda" / unit)
        words = []
        for word in command:
            resolved = str((build.folder / word).resolve()) if word.endswith(unit) else word
            words.append(str(folder / "cuda" / unit) if resolved == original else word)
        output = folder / f"{unit.replace('/', '_')}.{'checked.' if checked else ''}o"
        words[words.index("-o") + 1] = str(output)
        for flag in ("-MF", "-MT"):
            if flag in words:
                words[words.index(flag) + 1] = str(output) + ".d"
        subprocess.run(words, cwd=build.folder, check=True, capture_output=True, text=True)
        objects.append(str(output))
    program = folder / ("mutant_checked" if checked else "mutant")
    name = "cuda_checker_tests" if checked else "cuda_tests"
    parts = f"libattngraph_cuda_{'checked' if checked else 'emulated'}_parts.a"
    link = build.link[checked].replace(f" -o {name} ", f" -o {program} ")
    # Before the archive: its own copies of these units are then not taken.
    link = re.sub(rf"(\S*{re.escape(parts)})", " ".join(objects) + r" \1", link, count=1)
    subprocess.run(link, shell=True, cwd=build.folder, check=True, capture_output=True, text=True)
    return program


@dataclass
class Finding:
    by: str = ""  # empty: nothing found it
    how: str = ""
    seconds: float = 0


def run_mutant(program: Path, tests: str, timeout: float) -> Finding:
    """The first test that fails, or during which the checker reports."""
    begin = time.monotonic()
    try:
        done = subprocess.run([program, f"--gtest_filter={tests}", "--gtest_fail_fast"], timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except subprocess.TimeoutExpired as late:
        running = re.findall(r"\[ RUN      \] (\S+)", (late.stdout or b"").decode(errors="replace"))
        return Finding(running[-1] if running else "the time limit", "does not end", timeout)
    seconds = time.monotonic() - begin
    if done.returncode == 0:
        return Finding(seconds=seconds)
    report = re.search(r"^emulation: (race|unwritten): ", done.stdout, re.M)
    failed = re.search(r"^\[  FAILED  \] ([\w./]+)", done.stdout, re.M)
    before = done.stdout[: report.start()] if report else done.stdout
    running = re.findall(r"\[ RUN      \] (\S+)", before)
    schedule = re.search(r"schedule ([a-z ]+)$", done.stdout, re.M)
    if report:
        how = "race" if report.group(1) == "race" else "unwritten memory"
        return Finding(running[-1], how, seconds)
    if failed is None:
        return Finding(running[-1] if running else "the end of the process", "report at the end of the process", seconds)
    if re.search(r"cudaErrorIllegalAddress|cudaErrorLaunchFailure", done.stdout):
        how = "access, barrier or copy that CUDA does not allow"
    else:
        how = "wrong result"
    return Finding(failed.group(1), how + (f", schedule {schedule.group(1).strip()}" if schedule else ""), seconds)


def examine(build: Build, mutation: Mutation, timeout: float) -> Finding:
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        mutated_tree(mutation, folder)
        try:
            finding = run_mutant(build_mutant(build, mutation, folder, False), mutation.tests, timeout)
            if not finding.by:
                checked = run_mutant(build_mutant(build, mutation, folder, True), mutation.tests, timeout)
                if checked.by:
                    finding = Finding(f"{checked.by} (checker)", checked.how, checked.seconds)
        except subprocess.CalledProcessError as error:
            return Finding("the compiler", error.stderr.strip().splitlines()[0][:120] if error.stderr else "", 0)
        return finding


def table(results: list[tuple[Mutation, Finding]]) -> str:
    lines = ["| mutation | file | found by | as |", "|---|---|---|---|"]
    for mutation, finding in results:
        by = f"`{finding.by}`" if "." in finding.by else finding.by or "**nothing**"
        lines.append(f"| {mutation.what} | `{mutation.file}` | {by} | {finding.how} |")
    found = sum(1 for _, finding in results if finding.by)
    lines.append(f"\n{found} of {len(results)} are found.")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--only", default="", help="mutations whose name or file holds this word")
    parser.add_argument("--write", type=Path, help="a page with the marks of this script")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one mutation")
    arguments = parser.parse_args()
    build = Build(arguments.build)
    chosen = [m for m in MUTATIONS if (arguments.only in m.what or arguments.only in m.file)]
    results = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutation, finding in zip(chosen, pool.map(lambda m: examine(build, m, arguments.timeout), chosen)):
            results.append((mutation, finding))
            print(f"{mutation.what:60} {finding.by or 'NOTHING':70} {finding.how} ({finding.seconds:.1f} s)", flush=True)
    text = table(results)
    if arguments.write:
        page = arguments.write.read_text()
        head, _, rest = page.partition(BEGIN)
        arguments.write.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    missed = [mutation.what for mutation, finding in results if not finding.by]
    print(f"{len(results) - len(missed)} of {len(results)} mutations are found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
