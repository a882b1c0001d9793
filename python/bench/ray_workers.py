#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ray's workers beside plain processes, on the same tasks of about two seconds, interleaved (docs/benchmarks.md).

    python/bench/ray_workers.py [--rounds 3] [--n 65536] [--heads 4]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import attngraph as ag

THRESHOLD = 0.01


def problem(n, heads):
    rng = np.random.default_rng(1)
    return rng.standard_normal((2, heads, n, 64)).astype(np.float32)


def serve(path, pairs_per_task, share, of):
    """A process of its own: does its share of the tasks whenever a line comes in."""
    q, k = np.load(path)
    tasks = ag.plan(q, k, pairs_per_task=pairs_per_task)[share::of]
    ag.extract(q[:, :512], k[:, :512], THRESHOLD)
    print("ready", flush=True)
    for _ in sys.stdin:
        for task in tasks:
            ag.extract(q, k, THRESHOLD, threads=1, **task.part)
        print("done", flush=True)


class Processes:
    def __init__(self, path, pairs_per_task, count):
        self.all = [
            subprocess.Popen(
                [sys.executable, __file__, "--serve", path, str(pairs_per_task), str(share), str(count)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for share in range(count)
        ]  # fmt: skip
        for process in self.all:
            process.stdout.readline()

    def run(self):
        begin = time.perf_counter()
        for process in self.all:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in self.all:
            process.stdout.readline()
        return time.perf_counter() - begin

    def close(self):
        for process in self.all:
            process.stdin.close()
            process.wait()


def main():
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], *map(int, sys.argv[3:]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n", type=int, default=65536)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--pairs-per-task", type=int, default=1_100_000_000)
    a = parser.parse_args()

    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=512 << 20)
    qk = problem(a.n, a.heads)
    tasks = ag.plan(*qk, pairs_per_task=a.pairs_per_task)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, qk)
        file.flush()
        one, two = (Processes(file.name, a.pairs_per_task, count) for count in (1, 2))

        def by_ray(in_flight):
            begin = time.perf_counter()
            ag.ray.extract(*qk, THRESHOLD, pairs_per_task=a.pairs_per_task, in_flight=in_flight)
            return time.perf_counter() - begin

        ag.ray.extract(*qk[:, :, :2048], THRESHOLD, pairs_per_task=100_000, in_flight=4)  # both workers are up
        sides = {
            "one process": one.run,
            "two processes": two.run,
            "one Ray worker": lambda: by_ray(1),
            "two Ray workers": lambda: by_ray(4),
        }
        times = {name: [] for name in sides}
        for _ in range(a.rounds):
            for name, run in sides.items():
                times[name].append(run())
        one.close()
        two.close()
    ray.shutdown()

    print(f"{len(tasks)} tasks, N = {a.n:,}, {a.heads} heads, D = 64, causal, t = {THRESHOLD}, {a.rounds} rounds")
    for name, seconds in times.items():
        print(f"{name:16} {statistics.median(seconds):6.2f} s ({min(seconds):.2f} - {max(seconds):.2f})")
    for name, above, below in (
        ("two processes against one", "one process", "two processes"),
        ("two Ray workers against one", "one Ray worker", "two Ray workers"),
        ("two Ray workers against one process", "one process", "two Ray workers"),
    ):
        ratios = [x / y for x, y in zip(times[above], times[below])]
        print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})")
    overhead = [100 * (x / y - 1) for x, y in zip(times["one Ray worker"], times["one process"])]
    print(f"Ray on top of a task: {statistics.median(overhead):.1f} % ({min(overhead):.1f} - {max(overhead):.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
