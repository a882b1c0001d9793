#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""attngraph against what its users could use instead, on one core, in one run.

usage: bench/compare.py [options]          (--help lists them; docs/benchmarks.md explains the method)

    cmake --preset bench && cmake --build --preset bench && bench/compare.py

Every side keeps its input in a process of its own and is asked in turn, A B C A B C ..., so that a noisy machine
disturbs all of them; ratios are taken pair by pair. Answers are compared first: edges equal outside a relative band of
1e-4 around the threshold. Peers that cannot run here (torch, faiss and OpenBLAS are optional) are listed with the
reason. Writes results.md, results.json and roofline.svg.
"""

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import report
from sides import ONE_THREAD, Side, Unavailable, best_core_type, disagreement, interleave, python_peer, ratios, summary

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20
SECTIONS = ("machine", "whole", "extract", "matrix", "memory")
MEMORY_LIMIT = 128 * MIB  # beside input and answer
CHUNKS = (64, 128, 256, 512)  # rows, for the numpy script of section `whole`


class Comparison:
    def __init__(self, options, folder):
        self.options, self.folder = options, Path(folder)
        self.build = Path(options.build)
        self.worker = self.build / "bench_worker"
        self.clock = {"wall": "seconds", "cpu": "cpu_seconds"}[options.clock]
        self.core_types = {}
        self.results = {}

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def make(self, name, *words):
        """An input file that the worker writes once."""
        path = self.folder / name
        if not path.exists():
            subprocess.run([self.worker, words[0], path, *map(str, words[1:])], check=True)
        return path

    def qk(self, n, d, dtype):
        return self.make(f"qk-{n}-{d}-{dtype}.safetensors", "make-qk", n, d, dtype)

    def core_type(self, script, command):
        """Tried once for each peer, on a small problem."""
        if script not in self.core_types:
            self.core_types[script] = best_core_type(command)
        return self.core_types[script]

    def open_sides(self, commands):
        """commands: name -> (script, command, the same on a small problem or None). Sides that start, and why others
        did not."""
        sides, skipped = [], {}
        for name, (script, command, small) in commands.items():
            try:
                core_type = self.core_type(script, small) if small else ""
                sides.append(Side(name, command, core_type))
            except Unavailable as reason:
                skipped[name] = str(reason)
                self.say(f"  {name}: skipped: {reason}")
        if not sides or sides[0].name != "attngraph":
            raise SystemExit(f"compare.py: attngraph itself does not run: {skipped.get('attngraph')}")
        return sides, skipped

    def compare(self, title, scores, commands, may_differ=()):
        """Answers first, then the clock."""
        self.say(title)
        sides, skipped = self.open_sides(commands)
        try:
            counts = {side.name: side.ask("run")["edges"] for side in sides}
            ours, verdicts = sides[0].edges(self.folder), {"attngraph": f"{counts['attngraph']} edges"}
            for side in sides[1:]:
                wrong = disagreement(ours, side.edges(self.folder), self.options.threshold)
                if wrong and side.name not in may_differ:
                    raise SystemExit(f"compare.py: {title}: {side.name} does not agree with attngraph: {wrong}")
                verdicts[side.name] = wrong or "the same"
            runs = {side.name: (lambda side=side: side.ask("run")[self.clock]) for side in sides}
            times = interleave(runs, self.options.pairs)
        finally:
            for side in sides:
                side.close()
        facts = {side.name: side.facts for side in sides}
        return self.problem(title, scores, times, verdicts, facts, skipped)

    def problem(self, title, scores, times, verdicts, facts, skipped):
        rows = []
        for name, taken in times.items():
            row = {"name": name, "time": summary(taken), "answer": verdicts[name], "facts": facts[name]}
            if name != "attngraph":
                row["ratio"] = ratios(taken, times["attngraph"])
                self.say(f"  {name}: {report.spread(row['ratio'], report.times)} as long")
            rows.append(row)
        return {"title": title, "scores": scores, "sides": rows, "skipped": skipped}

    # ------------------------------------------------------------------------------------------------ sections

    def machine(self):
        """The limits that shares are measured against."""
        self.say("machine")
        done = subprocess.run(
            [self.build / "bench_machine", "--benchmark_format=json"], capture_output=True, text=True, check=True
        )
        rows = json.loads(done.stdout)["benchmarks"]
        return {row["name"].split("/iterations")[0].removeprefix("machine/"): row["best/s"] for row in rows}

    def whole(self):
        """The command against a script that does the same, reading and writing included."""
        path = self.options.genesis
        if not path:
            return {"skipped": "genesis-8k.safetensors was not found; give --genesis"}
        command = self.build / "attngraph"
        if not command.exists():
            return {"skipped": f"{command} was not built"}
        threshold, outputs = self.options.threshold, [self.folder / "ours.npz", self.folder / "theirs.npz"]

        def ours():
            begin, begin_cpu = time.perf_counter(), children_cpu()
            subprocess.run([command, "extract", path, "-t", str(threshold), "-o", outputs[0], "--threads", "1",
                            "--quiet"], check=True)  # fmt: skip
            taken = {"seconds": time.perf_counter() - begin, "cpu_seconds": children_cpu() - begin_cpu}
            return taken[self.clock]

        small = self.qk(1024, 64, "f32")
        trial = python_peer("numpy_chunks.py", "serve", small, threshold, "causal", "flatnonzero")
        core_type = self.core_type("numpy_chunks", trial)
        environment = {**os.environ, **ONE_THREAD, **({"OPENBLAS_CORETYPE": core_type} if core_type else {})}

        def theirs(way, chunk, clock=self.clock):
            words = python_peer("numpy_chunks.py", "file", path, str(threshold), outputs[1], way, str(chunk))
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
            return float(done.stdout.split()[clock == "cpu_seconds"])

        self.say("whole command")
        ours()
        our_file = np.load(outputs[0])
        runs, facts = {"attngraph": ours}, {"attngraph": "whole process, one thread"}
        verdicts = {"attngraph": f"{len(our_file['keys'])} edges"}
        for way in ("nonzero", "flatnonzero"):
            chunk = min(CHUNKS, key=lambda rows, way=way: theirs(way, rows, "cpu_seconds"))
            wrong = disagreement(file_edges(our_file), file_edges(np.load(outputs[1])), threshold)
            if wrong:
                raise SystemExit(f"compare.py: whole command: numpy {way} does not agree with attngraph: {wrong}")
            name = f"numpy {way}"
            runs[name] = lambda way=way, chunk=chunk: theirs(way, chunk)
            verdicts[name] = "the same"
            facts[name] = f"OpenBLAS type {core_type or 'as it comes'}, {chunk} rows a chunk, imports not counted"
        times = interleave(runs, self.options.pairs)
        slices = len(our_file["slices"])
        n = len(our_file["offsets"]) // slices - 1
        title = f"genesis-8k, {slices} heads, file to file"
        return self.problem(title, slices * n * (n + 1) / 2, times, verdicts, facts, {})

    def extract_commands(self, problem, small, dtype):
        """problem, small: (file, threshold, mask)."""

        def peer(script, *more):
            return python_peer(script, *problem, *more), python_peer(script, *small, *more)

        commands = {"attngraph": ("engine", [self.worker, "extract", *problem, "1"], None)}
        for way in ("nonzero", "flatnonzero"):
            words = (python_peer("numpy_chunks.py", "serve", *p, way) for p in (problem, small))
            commands[f"numpy {way}"] = ("numpy_chunks", *words)
        commands["numpy + FAISS"] = ("faiss", *peer("faiss_range.py"))
        commands["torch f32"] = ("torch", peer("torch_chunks.py", "f32")[0], None)
        if dtype == "bf16":
            commands["torch bf16"] = ("torch", peer("torch_chunks.py", "bf16")[0], None)
        else:
            commands["sgemm tiles"] = ("sgemm", *([self.worker, "sgemm", *p] for p in (problem, small)))
        return commands

    def extract(self):
        """In one process each: input in memory to CSR in memory."""
        o, problems = self.options, []
        for dtype, d, n, mask in itertools.product(o.dtypes, o.d, o.n, o.masks):
            problem, small = ((self.qk(length, d, dtype), o.threshold, mask) for length in (n, min(n, 2048)))
            scores = n * (n + 1) / 2 if mask == "causal" else n * n
            commands = self.extract_commands(problem, small, dtype)
            result = self.compare(f"{dtype}, D = {d}, N = {n}, {mask}", scores, commands, may_differ=("torch bf16",))
            problems.append({**result, "d": d, "n": n, "mask": mask, "dtype": dtype})
        return problems

    def matrix(self):
        """A ready matrix, f32."""
        n, threshold = self.options.matrix, self.options.threshold
        path = self.make(f"matrix-{n}.npy", "make-matrix", n)
        commands = {"attngraph": ("engine", [self.worker, "filter", path, threshold, "1"], None)}
        for way in ("nonzero", "flatnonzero", "chunks"):
            commands[f"numpy {way}"] = ("matrix", python_peer("numpy_matrix.py", path, threshold, way), None)
        return self.compare(f"ready matrix {n} x {n}, f32", n * n, commands)

    def memory(self):
        """Peak memory at the largest N, and whether time grows with the number of scores and no faster."""
        lengths, d, rows = self.options.growth, self.options.d[-1], []
        sides = {}
        for n in lengths:
            self.say(f"memory N = {n}")
            sides[n] = Side(str(n), [self.worker, "extract", self.qk(n, d, "f32"), self.options.threshold, "full", "1"])
            sides[n].ask("run")
            rows.append({"n": n, "d": d, **sides[n].ask("peak")})
        rounds = {n: (lambda n=n: sides[n].ask("run")[self.clock] / n**2) for n in lengths}
        times = interleave(rounds, max(1, self.options.pairs // 2))
        for row in rows:
            row["beside_bytes"] = row["peak_bytes"] - row["input_bytes"] - row["answer_bytes"]
            row["per_score"] = summary(times[row["n"]])
            sides[row["n"]].close()
        for row in rows:
            row["growth"] = row["per_score"]["median"] / rows[0]["per_score"]["median"]
        return rows


def file_edges(graph):
    """Edges of a CSR file whose slices are equally long; the rows of all slices in a line."""
    counts = np.diff(graph["offsets"].reshape(len(graph["slices"]), -1), axis=1).ravel()
    return np.repeat(np.arange(len(counts)), counts), graph["keys"], graph["weights"]


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def memory_table(rows):
    table = [
        [
            row["n"],
            *(f"{row[name] / MIB:.1f}" for name in ("input_bytes", "answer_bytes", "peak_bytes", "beside_bytes")),
            f"{row['per_score']['median'] * 1e9:.2f}",
            f"{100 * (row['growth'] - 1):+.1f} %",
        ]
        for row in rows
    ]
    header = ["N", "input, MiB", "answer, MiB", "peak of the process, MiB", "beside input and answer, MiB",
              "ns a score", f"against N = {rows[0]['n']}"]  # fmt: skip
    return report.markdown_table(header, table)


def machine_facts():
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return (
        f"{model}, {os.cpu_count()} cores; {platform.system()} {platform.release().split('-')[0]}; "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )


def write_markdown(results, options, path):
    load = ", ".join(f"{value:.2f}" for value in results["load"])
    parts = [
        f"{results['facts']}. Clock: {options.clock}; {options.pairs} rounds; t = {options.threshold}; one thread. "
        f"Load of the machine before the run: {load}.",
    ]
    if "machine" in results:
        rows = [[name, f"{rate / 1e9:.1f}"] for name, rate in results["machine"].items()]
        parts += ["## The machine", report.markdown_table(["limit", "10⁹ a second"], rows)]
    for name, title in (("whole", "The whole command"), ("matrix", "A ready matrix")):
        if name in results:
            found = results[name]
            skipped = isinstance(found["skipped"], str)
            parts += [f"## {title}", f"Skipped: {found['skipped']}" if skipped else report.comparison_table([found])]
    if "extract" in results:
        parts += ["## From queries and keys", report.comparison_table(results["extract"])]
    if "memory" in results:
        parts += ["## Memory and growth", memory_table(results["memory"])]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_roofline(results, path):
    if "machine" not in results or "extract" not in results:
        return
    limits = results["machine"]
    fma, exp2 = (max(rate for name, rate in limits.items() if name.startswith(kind)) for kind in ("fma", "exp2"))
    points = [
        (side["name"], problem["d"], problem["scores"] / side["time"]["median"])
        for problem in results["extract"]
        for side in problem["sides"]
        if problem["dtype"] == "f32"
    ]
    path.write_text(report.roofline_svg(fma, exp2, points), encoding="utf-8")


def parse(arguments):
    default_genesis = os.environ.get("ATTNGRAPH_GENESIS_8K") or ROOT.parent / "shared/data/genesis-8k.safetensors"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=ROOT / "build" / "bench", help="folder of the preset bench")
    parser.add_argument("--output", default=ROOT / "build" / "bench-results", help="folder for the results")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run")
    parser.add_argument("--pairs", type=int, default=5, help="rounds of the clock")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use")
    parser.add_argument("--threshold", type=float, default=0.01)
    parser.add_argument("--n", type=int, nargs="+", default=[16384, 32768], help="lengths of section extract")
    parser.add_argument("--d", type=int, nargs="+", default=[64, 128], help="head sizes")
    parser.add_argument("--masks", nargs="+", choices=("causal", "full"), default=["causal", "full"])
    parser.add_argument("--dtypes", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"])
    parser.add_argument("--matrix", type=int, default=8192, help="length of the ready matrix")
    growth = [8192, 16384, 32768, 65536, 131072]
    parser.add_argument("--growth", type=int, nargs="+", default=growth, help="lengths of section memory")
    parser.add_argument("--genesis", type=Path, default=Path(default_genesis), help="genesis-8k.safetensors")
    parser.add_argument("--smoke", action="store_true", help="everything small, to see that it works; no figures")
    options = parser.parse_args(arguments)
    if not options.genesis.exists():
        options.genesis = None
    if options.smoke:
        options.n, options.d, options.matrix, options.growth, options.pairs = [1024], [64], 512, [512, 1024], 1
    return options


def main():
    options = parse(sys.argv[1:])
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    results = {"facts": machine_facts(), "load": os.getloadavg(), "clock": options.clock}
    with tempfile.TemporaryDirectory(prefix="attngraph-bench-") as folder:
        comparison = Comparison(options, folder)
        if not comparison.worker.exists():
            raise SystemExit(f"compare.py: there is no {comparison.worker}; build the preset bench")
        for section in SECTIONS:
            if section in options.only:
                results[section] = getattr(comparison, section)()
                (output / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    write_markdown(results, options, output / "results.md")
    write_roofline(results, output / "roofline.svg")
    print((output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
