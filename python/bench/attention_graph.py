# SPDX-License-Identifier: Apache-2.0
"""attention_graph beside what people write by hand, and extract from torch beside the same call on NumPy.

usage: attention_graph.py [--repeat N] [--clock wall|cpu] [--json]

The answers are compared before anything is timed. Peers: a Python double loop over a NumPy matrix and over nested lists
(N = 1024), and ``np.nonzero(attn >= t)`` with the weights gathered and put into the same data frames (N = 1024 and
8192). The sides work in turn, so that whatever else the machine does disturbs all of them; a row has the median, the
fastest and the slowest round, and the median of the ratios taken round by round. --clock cpu takes processor time of all
threads, for machines that others use too.
"""

import argparse
import json
import os
import statistics
import sys
import time

import numpy as np

import attngraph as ag

THRESHOLD = 0.15


def softmax_matrix(n, dtype, seed=42):
    """A causal softmax of normal scores: most rows have a few weights above the threshold, as real heads do."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, n), dtype)
    for i in range(n):
        scores = np.full(n, -np.inf)
        scores[: i + 1] = 4 * rng.standard_normal(i + 1)
        weights = np.exp(scores - scores.max())
        out[i] = weights / weights.sum()
    return out


def frames(src, dst, weight, tokens):
    import pandas as pd

    nodes = pd.DataFrame({"id": range(len(tokens)), "token": tokens})
    return nodes, pd.DataFrame({"src": src, "dst": dst, "weight": weight})


def double_loop(attn, tokens):
    src, dst, weights = [], [], []
    for i in range(len(tokens)):
        for j in range(len(tokens)):
            weight = float(attn[i][j])
            if weight >= THRESHOLD:
                src.append(i)
                dst.append(j)
                weights.append(weight)
    return frames(src, dst, weights, tokens)


def nonzero(attn, tokens):
    src, dst = np.nonzero(attn >= THRESHOLD)
    return frames(src, dst, attn[src, dst].astype(np.float64), tokens)


def ours(attn, tokens):
    return ag.attention_graph(attn, tokens, THRESHOLD)


def in_turn(what, edges, candidates, repeat, clock):
    """One row a candidate. Fast calls are repeated within a round, so that a clock's step does not count."""
    counts = []
    for _, call in candidates:
        begin = time.perf_counter()
        call()
        counts.append(max(1, int(0.02 / (time.perf_counter() - begin))))
    rounds = [[] for _ in candidates]
    for _ in range(repeat):
        for (_, call), count, times in zip(candidates, counts, rounds):
            begin = clock()
            for _ in range(count):
                call()
            times.append((clock() - begin) / count)
    rows = []
    for (name, _), times in zip(candidates, rounds):
        ratio = statistics.median(other / own for other, own in zip(times, rounds[0]))
        figures = {"median": statistics.median(times), "min": min(times), "max": max(times)}
        rows.append(
            {"what": what, "how": name, "edges": edges, "ratio": ratio}
            | {f"{k}_ms": 1e3 * v for k, v in figures.items()}
        )
    return rows


def compare(what, candidates, repeat, clock):
    """Time the candidates; the first is ours, and every other must give the same edges."""
    want = candidates[0][1]()[1]
    for name, call in candidates:
        if not (want.values == call()[1].values).all():
            raise SystemExit(f"{what}: {name} gives other edges")
    return in_turn(what, len(want), candidates, repeat, clock)


def attention_graph_rows(repeat, clock):
    rows = []
    for dtype in (np.float64, np.float32):
        attn, tokens = softmax_matrix(1024, dtype), [f"t{i}" for i in range(1024)]
        name = np.dtype(dtype).name
        candidates = [
            ("attngraph.attention_graph", lambda: ours(attn, tokens)),
            ("numpy nonzero", lambda: nonzero(attn, tokens)),
            ("double loop", lambda: double_loop(attn, tokens)),
        ]
        rows += compare(f"N = 1024, {name} array", candidates, repeat, clock)
        lists = attn.tolist()  # three times as large as the array
        candidates = [
            ("attngraph.attention_graph", lambda: ours(lists, tokens)),
            ("double loop", lambda: double_loop(lists, tokens)),
        ]
        rows += compare(f"N = 1024, nested lists of {name}", candidates, repeat, clock)
        attn, tokens = softmax_matrix(8192, dtype), [f"t{i}" for i in range(8192)]
        candidates = [
            ("attngraph.attention_graph", lambda: ours(attn, tokens)),
            ("numpy nonzero", lambda: nonzero(attn, tokens)),
        ]
        rows += compare(f"N = 8192, {name} array", candidates, repeat, clock)
    return rows


def extract_rows(repeat, clock):
    """What Python adds: the same extraction from a torch tensor and with nothing but views made beforehand."""
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((1, h, 8192, 64)).astype(np.float32) for h in (8, 8))

    def native():
        options = ag._native.Options()
        options.threshold(0.05)
        options.causal(True)
        sink = ag._native.Sink.collect()
        ag._native.Context("auto").extract(views[0], views[1], options, sink)
        return sink.take_result()

    views = [ag._native.Tensor(x, "x") for x in (q, k)]
    candidates = [("library alone", native), ("extract from numpy", lambda: ag.extract(q, k, 0.05))]
    try:
        import torch

        tq, tk = torch.from_numpy(q), torch.from_numpy(k)
        candidates.append(("extract from torch", lambda: ag.extract(tq, tk, 0.05)))
    except ImportError:
        print("torch is not installed; its row is left out", file=sys.stderr)
    return in_turn("extract, 8 heads, N = 8192, D = 64", native().edge_count(), candidates, repeat, clock)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    rows = attention_graph_rows(args.repeat, clock) + extract_rows(args.repeat, clock)
    if args.json:
        facts = {"cores": len(os.sched_getaffinity(0)), "version": ag.__version__, "clock": args.clock}
        print(json.dumps({**facts, "rows": rows}, indent=1))
        return
    print(f"{'':36} {'':26} {'edges':>9} {'median ms':>10} {'min':>9} {'max':>9} {'x ours':>8}")
    for row in rows:
        print(
            f"{row['what']:36} {row['how']:26} {row['edges']:9,} {row['median_ms']:10.3f} {row['min_ms']:9.3f} "
            f"{row['max_ms']:9.3f} {row['ratio']:8.2f}"
        )


if __name__ == "__main__":
    main()
