#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the library on purpose, one place at a time, and says whether the tool that is meant to find it does.

usage: mutations.py BUILD [--only WORD] [--write FILE]

BUILD is a build folder with differential_tests, graph_tests, api_tests, fuzz_replay and the command. Of each mutation one
source file is compiled as the build compiles it and linked in place of the original, into the tool's program or the
shared library. A mutation that its tool does not find is a hole in the tool: exit status 1. tests/cuda/mutations.py does
the same for kernels. --write puts the table into a page, between its marks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- tests/mutations.py -->", "<!-- end of tests/mutations.py -->"
SHARED = "libattngraph.so.2.0.1.0"


@dataclass(frozen=True)
class Tool:
    links: str  # the program or library that is linked anew
    command: tuple[str, ...]  # {built}: the folder it is in, {build}: the build folder


TOOLS = {
    "tests/differential": Tool("differential_tests", ("{built}/differential_tests", "--gtest_fail_fast", "--gtest_brief=1")),
    "tests/graph": Tool("graph_tests", ("{built}/graph_tests", "--gtest_filter=CollectSink.*", "--gtest_brief=1")),
    "tests/api": Tool(SHARED, ("{build}/api_tests", "--gtest_filter=Promises.*:Stress.*", "--gtest_brief=1")),
    "tests/fuzz": Tool("fuzz_replay", ("{built}/fuzz_replay", "2000")),
    "tests/faults": Tool(SHARED, (sys.executable, str(ROOT / "tests/faults/faults_test.py"), "{build}/attngraph",
                                  "{build}/libattngraph_fault_shim.so", str(ROOT / "data/genesis-1k.safetensors"))),
}


@dataclass(frozen=True)
class Mutation:
    what: str
    file: str  # below src/
    old: str
    new: str
    tool: str


MUTATIONS = (
    Mutation("scores in double are taken to be exact", "exact/judge.cpp",
             "const double error = margin_error(n);\n    if (margin > error)", "const double error = 0;\n    if (margin > error)",
             "tests/differential"),
    Mutation("pairs just below the threshold are not looked at", "exact/certifying_sink.cpp",
             "low = threshold * std::exp(-open.band - kFloatRounding)", "low = threshold", "tests/differential"),
    Mutation("of equal scores the larger key comes first", "exact/row.cpp",
             "if (same_score(a, b)) return a < b;", "if (same_score(a, b)) return a > b;", "tests/differential"),
    Mutation("a prefix of equal keys that weighs the mass exactly does not reach it", "exact/row.cpp",
             "mass, -count) <= 0;", "mass, -count) < 0;", "tests/differential"),
    Mutation("weights around a prefix's end are taken to be exact", "exact/prefix.cpp",
             "factor_ = std::exp(band + kFloatRounding);", "factor_ = 1;", "tests/differential"),
    Mutation("the sink is no term of the denominator", "exact/row.cpp",
             "if (sink_ == -kInfinity) return true;", "return true;",
             "tests/differential"),
    Mutation("borderline pairs are not counted", "cpu/row_finish.cpp",
             "report.borderline += terms == 0 && std::abs(margin) <= eps;", "", "tests/differential"),
    Mutation("a large array moves without a look at the caller", "graph/edge_list.cpp", "    if (poll) poll();\n", "",
             "tests/graph"),
    Mutation("rows without keys are not limited", "api/request.cpp",
             "if (keys == 0 && rows > kMaxKeylessRows) {", "if (false) {", "tests/api"),
    Mutation("a dimension may be negative", "io/npy.cpp", "if (error != std::errc{} || value < 0) {",
             "if (error != std::errc{}) {", "tests/fuzz"),
    Mutation("a deflated member may be longer than deflate can make it", "io/zip_reader.cpp",
             "member.size / 1032 > member.compressed", "false", "tests/fuzz"),
    Mutation("a failed fsync is not told", "io/output_file.cpp",
             'if (::fsync(fd_) != 0) fail_write(name(), "writing to the disk", errno);', "(void)::fsync(fd_);", "tests/faults"),
    Mutation("half a write is a whole one", "io/output_file.cpp",
             "    bytes += put;\n    count -= static_cast<std::size_t>(put);", "    bytes += put;\n    count = 0;", "tests/faults"),
    Mutation("a failed write is not told", "io/output_file.cpp", "if (put < 0) return errno;", "if (put < 0) return 0;",
             "tests/faults"),
)


class Build:
    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        commands = json.loads((self.folder / "compile_commands.json").read_text())
        self.compile = {Path(entry["file"]).resolve(): entry["command"] for entry in commands
                        if (ROOT / "src") in Path(entry["file"]).resolve().parents}

    def link_command(self, target: str) -> str:
        lines = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", target], check=True, capture_output=True,
                               text=True).stdout.splitlines()
        return next(line for line in reversed(lines) if f" -o {target} " in line)

    def compile_mutant(self, mutation: Mutation, folder: Path) -> tuple[str, str]:
        """The object as the build names it, and the mutant's."""
        source = ROOT / "src" / mutation.file
        text = source.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(f"mutations.py: '{mutation.what}': {mutation.file} has this not once:\n{mutation.old}")
        # Beside nothing of its own, so that its includes are looked for from the original's folder.
        mutant = folder / source.name
        mutant.write_text(text.replace(mutation.old, mutation.new))
        words = shlex.split(self.compile[source])
        original = words[words.index("-o") + 1]
        output = folder / "mutant.o"
        words[words.index("-o") + 1] = str(output)
        words = [str(mutant) if word == str(source) or (self.folder / word).resolve() == source else word for word in words]
        words[1:1] = ["-iquote", str(source.parent)]
        subprocess.run(words, cwd=self.folder, check=True, capture_output=True, text=True)
        return original, str(output)

    def link(self, target: str, original: str, mutant: str, folder: Path) -> None:
        command = self.link_command(target).replace(f" -o {target} ", f" -o {folder / target} ")
        if original in command:
            command = command.replace(original, mutant)
        else:  # before the archive: its own copy is then not taken
            command = re.sub(r"(\S*libattngraph_internal\.a)", mutant + r" \1", command, count=1)
        subprocess.run(command.split(" && ")[1] if " && " in command else command, shell=True, cwd=self.folder, check=True,
                       capture_output=True, text=True)
        if target == SHARED:
            (folder / "libattngraph.so.2").symlink_to(folder / target)


def examine(build: Build, mutation: Mutation) -> tuple[str, float]:
    """What the tool said, empty when it found nothing, and the seconds it took."""
    tool = TOOLS[mutation.tool]
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        try:
            build.link(tool.links, *build.compile_mutant(mutation, folder), folder)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"mutations.py: '{mutation.what}' does not build:\n{error.stderr[-2000:]}") from error
        command = [word.format(built=folder, build=build.folder) for word in tool.command]
        begin = time.monotonic()
        done = subprocess.run(command, env={**os.environ, "LD_LIBRARY_PATH": str(folder)}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=1200)
        seconds = time.monotonic() - begin
    if done.returncode == 0:
        return "", seconds
    failed = re.search(r"^\[  FAILED  \] ([\w./]+)", done.stdout, re.M)
    wrong = re.search(r"^WRONG: .*|^.*: \d+ wrong$", done.stdout, re.M)
    return (f"`{failed.group(1)}`" if failed else wrong.group(0) if wrong else f"exit status {done.returncode}"), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--only", default="", help="mutations whose name, file or tool holds this word")
    parser.add_argument("--write", type=Path, help="a page with the marks of this script")
    arguments = parser.parse_args()
    build = Build(arguments.build)
    chosen = [m for m in MUTATIONS if any(arguments.only in text for text in (m.what, m.file, m.tool))]
    lines, missed = ["| mutation | file | tool | what it said |", "|---|---|---|---|"], 0
    for mutation in chosen:
        said, seconds = examine(build, mutation)
        missed += not said
        print(f"{mutation.what:75} {mutation.tool:20} {said or 'NOTHING'} ({seconds:.1f} s)", flush=True)
        lines.append(f"| {mutation.what} | `src/{mutation.file}` | `{mutation.tool}` | {said or '**nothing**'} |")
    if arguments.write:
        head, _, rest = arguments.write.read_text().partition(BEGIN)
        table = "\n".join(lines)
        arguments.write.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")
    print(f"{len(chosen) - missed} of {len(chosen)} mutations are found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
