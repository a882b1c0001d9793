# SPDX-License-Identifier: Apache-2.0
"""The sides of a comparison: processes that hold their input and wait, one of them working at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np

PEERS = Path(__file__).resolve().parent / "peers"

# What OpenBLAS may be told to be; on virtual machines its own choice can be a poor one.
CORE_TYPES = ("", "SkylakeX", "Cooperlake", "SapphireRapids", "Zen", "Haswell")
ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}


class Unavailable(Exception):
    """A side that cannot take part here; the text says why."""


class Side:
    def __init__(self, name, command, core_type=""):
        self.name = name
        environment = {**os.environ, **ONE_THREAD}
        environment.pop("OPENBLAS_CORETYPE", None)
        if core_type:
            environment["OPENBLAS_CORETYPE"] = core_type
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )  # fmt: skip
        self.facts = self.answer()["facts"]

    def answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        errors = self.process.communicate()[1].strip().splitlines()
        raise Unavailable(errors[-1] if errors else f"exit status {self.process.returncode}")

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def edges(self, folder):
        """The last answer as (row, key, weight) arrays."""
        prefix = Path(folder) / "answer"
        self.ask(f"save {prefix}")
        offsets, keys, weights = (np.load(f"{prefix}.{name}.npy") for name in ("offsets", "keys", "weights"))
        return csr_edges(offsets, keys, weights)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def csr_edges(offsets, keys, weights):
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), keys, weights


def python_peer(script, *arguments):
    return [sys.executable, PEERS / script, *arguments]


def best_core_type(command):
    """The OpenBLAS kernel with which this peer is fastest here, of those that run at all."""
    times = {}
    for core_type in CORE_TYPES:
        try:
            side = Side("trial", command, core_type)
            times[core_type] = min(side.ask("run")["cpu_seconds"] for _ in range(3))
            side.close()
        except Unavailable as reason:
            if core_type == "":  # as it comes it must run: without it the peer itself is missing
                raise reason
    return min(times, key=times.get)


def disagreement(ours, theirs, threshold, band=1e-4):
    """What is wrong with an answer: edges outside the band in one only, weights that differ; "" when nothing is."""
    width = 1 + max(int(e[1].max(initial=0)) for e in (ours, theirs))
    codes = [e[0].astype(np.int64) * width + e[1] for e in (ours, theirs)]
    wrong = 0
    for mine, other, weights in ((codes[0], codes[1], ours[2]), (codes[1], codes[0], theirs[2])):
        alone = ~np.isin(mine, other)
        wrong += int(np.count_nonzero(np.abs(weights[alone] / threshold - 1) > band))
    _, a, b = np.intersect1d(codes[0], codes[1], return_indices=True)
    apart = np.abs(theirs[2][b] / ours[2][a] - 1).max(initial=0)
    problems = []
    if wrong:
        problems.append(f"{wrong} of {len(codes[0])} edges differ")
    if apart > band:
        problems.append(f"weights differ by up to {apart:.1e}")
    return "; ".join(problems)


def interleave(runs, pairs):
    """runs: name -> function that works once and returns seconds. A B C A B C ...: what disturbs one disturbs all."""
    times = {name: [] for name in runs}
    for _ in range(pairs):
        for name, run in runs.items():
            times[name].append(run())
    return times


def summary(times):
    return {"median": median(times), "least": min(times), "most": max(times), "all": times}


def ratios(theirs, ours):
    """How many times longer they took, pair by pair."""
    return summary([a / b for a, b in zip(theirs, ours)])
