# SPDX-License-Identifier: Apache-2.0
"""The command while the system fails it: each call of a kind in turn, a disk that is full after every byte, and kills.

usage: faults_test.py COMMAND SHIM SAMPLE [POINTS]

COMMAND is attngraph, SHIM the library built from shim.c, SAMPLE a tensor file. At most POINTS faults are tried (default
500), spread over all there are. After each one the command has ended with 0 or 1 and not by a signal; the output is
the whole one, or what stood there before, and with 0 the whole one; nothing else is left in its folder.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND, SHIM, SAMPLE = (str(Path(argument).resolve()) for argument in sys.argv[1:4])
POINTS = int(sys.argv[4]) if len(sys.argv) > 4 else 500
SEED = int(os.environ.get("ATTNGRAPH_FIRST_SEED", "1"))
BEFORE = b"what stood here before\n"
KINDS = ["alloc", "open", "pread", "write", "short", "fsync", "rename", "link", "unlink", "close", "fstat", "thread"]
# A fault that the work goes on without: half a write is no error, one thread less does the same.
HARMLESS = {"short", "thread"}
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith(("FAULT_", "LD_PRELOAD"))}


class Place:
    """A folder for one job's output, with or without a file that stands there already. --rows writes two files."""

    def __init__(self, name, arguments, replaces):
        self.name, self.arguments, self.replaces = name, arguments, replaces
        self.folder = Path(tempfile.mkdtemp(prefix="attngraph-faults-"))
        self.out = self.folder / name
        self.log = self.folder.parent / (self.folder.name + ".log")
        assert self.run({}).returncode == 0, "the job succeeds without a fault"
        self.whole = self.out.read_bytes()
        self.rows = self.out.with_suffix(".rows" + self.out.suffix)
        self.whole_rows = self.rows.read_bytes() if self.rows.exists() else None

    def reset(self):
        for path in self.folder.iterdir():
            path.unlink()
        if self.replaces:
            self.out.write_bytes(BEFORE)

    def run(self, fault, start=subprocess.run, **how):
        self.reset()
        environment = {**PLAIN, **fault, "FAULT_LOG": str(self.log)}
        if fault:
            environment["LD_PRELOAD"] = SHIM
        command = [COMMAND, *self.arguments, *([] if self.arguments[0] == "convert" else ["-o"]), str(self.out)]
        return start(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)

    def count(self, kind):
        self.run({"FAULT_KIND": kind, "FAULT_AT": "0"})
        return int(self.log.read_text())

    def complaint(self, status, may_be_killed=False):
        """What is wrong after a run that ended with `status`; None when nothing is."""
        if status < 0 and not may_be_killed:
            return f"ended by {signal.Signals(-status).name}"
        if status not in (0, 1) and status >= 0:
            return f"exit status {status}"
        others = [path.name for path in self.folder.iterdir() if path != self.out and path != self.rows]
        if status == 0 and self.whole_rows is not None and self.rows.read_bytes() != self.whole_rows:
            return "exit status 0, but the second file is not whole"
        if status == 1 and self.rows.exists():
            others.append(self.rows.name)
        if others:
            return f"left {others}"
        now = self.out.read_bytes() if self.out.exists() else None
        before = BEFORE if self.replaces else None
        if status == 0 and now != self.whole:
            return "exit status 0, but the output is not whole"
        if now not in (self.whole, before):
            return f"the output has {len(now or b'')} bytes of {len(self.whole)}"
        if status == 1 and now == self.whole:
            return "exit status 1, although the output is there"
        return None


def faults(place):
    """Every fault of a job, as (environment, may the command succeed)."""
    for kind in KINDS:
        for n in range(1, place.count(kind) + 1):
            yield {"FAULT_KIND": kind, "FAULT_AT": str(n)}
            if kind == "alloc" and n % 7 == 0:
                yield {"FAULT_KIND": kind, "FAULT_AT": str(n), "FAULT_ON": "1"}
    for byte in range(1, place.count("space")):
        yield {"FAULT_KIND": "space", "FAULT_AT": str(byte)}


def main():
    random.seed(SEED)
    scratch = Path(tempfile.mkdtemp(prefix="attngraph-faults-input-"))
    graph = scratch / "g.csv"
    graph.write_text("batch,layer,head,query,key,weight\n" + "".join(f"0,0,0,{i},{i % 3},0.5\n" for i in range(20)))
    matrix = scratch / "m.npy"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4), }".ljust(117) + b"\n"
    matrix.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header + bytes(64))
    extract = ["extract", SAMPLE, "--heads", "0", "--query-range", "0:64", "--layers", "5", "-t", "0.2", "--device", "cpu"]
    places = [
        Place("a.csv", ["filter", str(matrix), "--device", "cpu", "-t", "0"], False),
        Place("b.csv", ["convert", str(graph)], True),
        Place("c.npz", ["convert", str(graph)], True),
        Place("d.safetensors", ["convert", str(graph)], False),
        Place("e.jsonl", [*extract, "--quiet"], True),
        Place("g.csv", [*extract, "--rows"], True),
        Place("f.npz", [*extract, "--threads", "2", "--decision", "certified"], False),
    ]
    assert places[0].count("write") > 0, "the shim is in the command's way"
    points = [(place, fault) for place in places for fault in faults(place)]
    chosen = points if len(points) <= POINTS else random.sample(points, POINTS)
    wrong = []
    for place, fault in chosen:
        # The CPU's products are probed in a process of their own, which the fault is not meant for.
        complaint = place.complaint(place.run(fault).returncode)
        if complaint:
            wrong.append(f"{' '.join(place.arguments[:1])} -> {place.name}, {fault}: {complaint}")
    killed = 0
    big = scratch / "big.csv"
    big.write_text("batch,layer,head,query,key,weight\n" + "".join(f"0,0,0,{i},0,0.5\n" for i in range(30000)))
    for place in (Place("k.npz", ["convert", str(big)], False), Place("l.csv", ["convert", str(big)], False)):
        begin = time.monotonic()
        place.run({})
        whole_run = time.monotonic() - begin
        for n in range(max(10, POINTS // 50)):
            process = place.run({}, start=subprocess.Popen)
            time.sleep(random.uniform(0, whole_run))
            process.send_signal((signal.SIGKILL, signal.SIGHUP, signal.SIGTERM)[n % 3])
            killed += 1
            complaint = place.complaint(process.wait(), may_be_killed=True)
            if complaint:
                wrong.append(f"killed while writing {place.name}: {complaint}")
        shutil.rmtree(place.folder)
    for place in places:
        shutil.rmtree(place.folder)
        place.log.unlink(missing_ok=True)
    shutil.rmtree(scratch)
    for line in wrong[:40]:
        print(line)
    print(f"{len(chosen)} of {len(points)} faults and {killed} kills (seed {SEED}): {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
