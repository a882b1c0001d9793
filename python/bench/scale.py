#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What large problems cost (docs/scale.md), and the scheduler of attngraph.ray, simulated and run.

    python/bench/scale.py                  the tables: rates in, device hours and bytes out
    python/bench/scale.py --simulate       the scheduler with failures, by a seed
    python/bench/scale.py --million        one head of a million tokens: what is predicted, and sampled tasks of it
    python/bench/scale.py --run            the same failures on this machine, beside the simulation; needs Ray
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

# Pairs (query, key) a second, measured: docs/benchmarks.md (a core) and docs/gpu.md.
RATES = {
    "CPU core, f32": {64: 0.659e9, 128: 0.361e9},
    "CPU core, bf16 pairs": {64: 1.063e9, 128: 0.649e9},
    # 16 heads of 16,384: 2.6 and 3.4 ms for 16 * 2^28 pairs, without the copy of the edges.
    "H100, prototype of two passes": {64: 16 * 2**28 / 2.6e-3, 128: 16 * 2**28 / 3.4e-3},
}
NETWORK, DISK = 1.25e9, 1e9  # bytes a second of a node: 10 Gbit/s; a local SSD that writes 1 GB/s
EDGE_BYTES, ROW_BYTES = 8, 44  # of a graph file: key and weight; 36 of statistics and an offset (docs/formats.md)


def cost(name, documents, n, layers, heads, key_heads, d, edges_per_row, rate, devices_per_node):
    """Pairs, device seconds, bytes in and out, and what a node with that many devices waits for."""
    rows = documents * layers * heads * n
    pairs = rows * (n + 1) / 2
    seconds = pairs / rate
    made = documents * layers * (heads + key_heads) * n * d * 2  # Q and K in 16 bits
    moved = made if documents == 1 else 0  # once to one node; many prompts are captured where the model runs
    stored = rows * (ROW_BYTES + EDGE_BYTES * edges_per_row)
    node = {"compute": seconds / devices_per_node, "network": moved / NETWORK, "disk": stored / DISK}
    return {
        "problem": name, "pairs": pairs, "rows": rows, "device_hours": seconds / 3600, "made": made, "moved": moved, "stored": stored,
        "node_hours": {key: value / 3600 for key, value in node.items()}, "binds": max(node, key=node.get),
    }  # fmt: skip


def tables(edges_per_row):
    problems = [
        ("1M tokens x 80 layers x 64 heads", 1, 2**20, 80, 64, 8, 128),
        ("one head of it", 1, 2**20, 1, 1, 1, 128),
        ("1M prompts of 8k, 32 layers x 32 heads", 10**6, 8192, 32, 32, 8, 128),
        ("one prompt of it", 1, 8192, 32, 32, 8, 128),
    ]
    print(f"causal, D = 128, {edges_per_row} edges a row; Q and K of 16 bits\n")
    print("| Problem | Pairs | Rows | Q and K | Graph |\n|---|---|---|---|---|")
    for problem in problems:
        e = cost(*problem, edges_per_row, 1, 1)
        print(f"| {e['problem']} | {e['pairs']:.2e} | {e['rows']:.2e} | {size(e['made'])} | {size(e['stored'])} |")
    print("\n| Problem | Device | Device hours | A node's hours: compute | network | disk | Binds |\n|---|---|---|---|---|---|---|")
    for problem in problems[::2]:
        for device, per_node in (("CPU core, f32", 64), ("CPU core, bf16 pairs", 64), ("H100, prototype of two passes", 8)):
            e = cost(*problem, edges_per_row, RATES[device][128], per_node)
            hours = e["node_hours"]
            print(
                f"| {e['problem']} | {device}, {per_node} a node | {e['device_hours']:,.0f} | {hours['compute']:,.1f} | "
                f"{hours['network']:,.2f} | {hours['disk']:,.2f} | {e['binds']} |"
            )


def size(count):
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            return f"{count:.3g} {unit}"
        count /= 1000


# ----------------------------------------------------------------------------------------------------------------------
# the scheduler


def simulate(durations, workers, overhead, kills, restart):
    """Seconds until all tasks are done. Tasks are given out in order, one to a worker. Each of `kills` is (seconds, which):
    a worker, by a number in [0, 1), loses the task that it has, which is given out again first, and is back after
    `restart`."""
    waiting = list(range(len(durations)))[::-1]
    has = {}  # worker: (number of its task's run, task)
    idle = list(range(workers))
    events = [(when, 0, "kill", int(which * workers)) for when, which in kills]
    heapq.heapify(events)
    now, run, left = 0.0, 0, len(durations)
    while True:
        while waiting and idle:
            worker, run = idle.pop(), run + 1
            has[worker] = (run, waiting.pop())
            heapq.heappush(events, (now + durations[has[worker][1]] + overhead, run, "end", worker))
        now, number, kind, worker = heapq.heappop(events)
        if kind == "back":
            idle.append(worker)
        elif kind == "kill" and worker in has:
            waiting.append(has.pop(worker)[1])
            heapq.heappush(events, (now + restart, 0, "back", worker))
        elif kind == "end" and has.get(worker, (None,))[0] == number:
            del has[worker]
            idle.append(worker)
            left -= 1
            if left == 0:
                return now


def print_simulation(seed):
    """A thousand workers, tasks of two minutes, each worker lost once in so many hours."""
    workers, tasks, length, restart = 1000, 50_000, 120.0, 60.0
    chance = random.Random(seed)
    durations = [length * chance.uniform(0.95, 1.05) for _ in range(tasks)]
    ideal = sum(durations) / workers
    print(f"\n{workers} workers, {tasks:,} tasks of {length:.0f} s, {restart:.0f} s until a lost worker is back, seed {seed}\n")
    print("| A worker is lost every | Losses | Hours | Over the ideal |\n|---|---|---|---|")
    for hours in (None, 100, 24, 4, 1):
        chance, kills = random.Random(seed), []
        when = 0.0
        while hours and (when := when + chance.expovariate(workers / (3600 * hours))) < 3 * ideal:
            kills.append((when, chance.random()))
        took = simulate(durations, workers, 0.005, kills, restart)
        lost = sum(when < took for when, _ in kills)
        print(f"| {'never' if hours is None else f'{hours} h'} | {lost:,} | {took / 3600:.2f} | {100 * (took / ideal - 1):.1f} % |")


# ----------------------------------------------------------------------------------------------------------------------
# the real ones


def million():
    """N = 2^20, D = 64, causal, one head, one thread: the rate of a short problem and the fixed cost of a task predict the
    time; a few tasks are done."""
    import numpy as np

    import attngraph as ag

    n = 2**20
    rng = np.random.default_rng(1)
    q, k = (rng.standard_normal((1, n, 64)).astype(np.float32) for _ in range(2))

    def seconds(q, k, **how):
        begin = time.perf_counter()
        ag.extract(q, k, 0.01, threads=1, **how)
        return time.perf_counter() - begin

    short = 16384
    rate = short * (short + 1) / 2 / min(seconds(q[:, :short], k[:, :short]) for _ in range(3))
    few = 384
    fixed = min(seconds(q, k, query_range=(n - few, n)) for _ in range(2)) - few * n / rate
    tasks = ag.plan(q, k, pairs_per_task=2**33)
    sampled = [tasks[len(tasks) * part // 8] for part in (1, 4, 7)]
    predicted = [fixed + task.pairs / rate for task in sampled]
    took = [seconds(q, k, **task.part) for task in sampled]
    print(f"{rate / 1e9:.3f} x 10^9 pairs/s at N = {short:,}; a task costs {fixed:.2f} s beside its pairs; {len(tasks)} tasks")
    for task, expected, was in zip(sampled, predicted, took):
        print(f"queries {task.query_begin:,} to {task.query_end:,}: predicted {expected:.2f} s, took {was:.2f} s")
    whole = sum(fixed + task.pairs / rate for task in tasks)
    print(f"the whole: predicted {whole:.0f} s, extrapolated {whole * sum(took) / sum(predicted):.0f} s, "
          f"{100 * (sum(took) / sum(predicted) - 1):+.1f} %")


def run_here(seed, n, heads, pairs_per_task, failures):
    import numpy as np
    import ray

    import attngraph as ag

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, heads, n, 64)).astype(np.float32)
    tasks = ag.plan(q, k, pairs_per_task=pairs_per_task)
    ag.ray.extract(q[:, :512], k[:, :512], 0.01)  # workers are up

    def timed(**how):
        begin = time.perf_counter()
        ag.ray.extract(q, k, 0.01, pairs_per_task=pairs_per_task, retries=10, **how)
        return time.perf_counter() - begin

    # Calibration: with both workers at work a task takes the time that two busy processors need for it.
    clean = timed()
    per_pair = 2 * clean / sum(task.pairs for task in tasks)
    durations = [task.pairs * per_pair for task in tasks]
    chance = random.Random(seed)
    kills = sorted((clean * chance.uniform(0.05, 0.9), chance.random()) for _ in range(failures))
    restart = worker_start(ray)

    done = []
    begin = time.perf_counter()
    run = threading.Thread(target=lambda: done.append(timed()))
    run.start()
    for when, which in kills:
        time.sleep(max(0.0, begin + when - time.perf_counter()))
        pids = workers_of(os.getpid())
        if int(which * 2) < len(pids):
            os.kill(pids[int(which * 2)], signal.SIGKILL)
    run.join()
    expected = simulate(durations, 2, 0.0, kills, restart)
    undisturbed = simulate(durations, 2, 0.0, [], restart)
    print(f"{len(tasks)} tasks of about {sum(durations) / len(tasks):.2f} s, 2 workers, {failures} killed, a new one after {restart:.2f} s")
    print(f"undisturbed: simulated {undisturbed:.1f} s, run {clean:.1f} s")
    print(f"with kills at {', '.join(f'{when:.1f}' for when, _ in kills)} s: simulated {expected:.1f} s, run {done[0]:.1f} s, "
          f"{100 * (done[0] / expected - 1):+.0f} %")
    ray.shutdown()


def worker_start(ray):
    """Seconds from a kill until the lost task is at work again in a new worker, while the other worker works."""

    def work(seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    def twice(mark):
        if not mark.exists():
            mark.with_suffix(".new").write_text(str(os.getpid()))
            mark.with_suffix(".new").rename(mark)
            work(60)
        import attngraph  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "pid"
        busy, lost = ray.remote(work).remote(20), ray.remote(twice).options(max_retries=3).remote(mark)
        while not mark.exists():
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(int(mark.read_text()), signal.SIGKILL)
        begin = time.perf_counter()
        ray.get(lost)
        seconds = time.perf_counter() - begin
        ray.cancel(busy, force=True)
    return seconds


def workers_of(pid):
    """Processes below `pid` that are doing a task."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
    found = []
    for child, name in names.items():
        above = child
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and name.startswith(b"ray::_do_task"):
            found.append(child)
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges-per-row", type=float, default=10)
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n", type=int, default=65536)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--pairs-per-task", type=int, default=300_000_000)
    parser.add_argument("--failures", type=int, default=3)
    a = parser.parse_args()
    if a.million:
        million()
    elif a.run:
        run_here(a.seed, a.n, a.heads, a.pairs_per_task, a.failures)
    elif a.simulate:
        print_simulation(a.seed)
    else:
        tables(a.edges_per_row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
