# SPDX-License-Identifier: Apache-2.0
"""attention_graph beside what people write by hand, and extract from torch beside the same call on NumPy.

usage: attention_graph.py [--repeat N] [--json]

The answers are compared before anything is timed. Peers: a Python double loop over a NumPy matrix and over nested lists
(N = 1024), and ``np.nonzero(attn >= t)`` with the weights gathered and put into the same data frames (N = 1024 and
8192). Times are medians over the repetitions, with the fastest and the slowest beside them.
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


def measure(call, repeat):
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return {"median_ms": 1e3 * statistics.median(times), "min_ms": 1e3 * min(times), "max_ms": 1e3 * max(times)}


def compare(rows, what, candidates, repeat):
    """Time the candidates; the first is ours, and every other must give the same edges."""
    want = candidates[0][1]()[1]
    for name, call, slow in candidates:
        edges = call()[1]
        if not (want.values == edges.values).all():
            raise SystemExit(f"{what}: {name} gives other edges")
        rows.append({"what": what, "how": name, "edges": len(edges), **measure(call, 3 if slow else repeat)})


def attention_graph_rows(repeat):
    rows = []
    for dtype in (np.float64, np.float32):
        attn, tokens = softmax_matrix(1024, dtype), [f"t{i}" for i in range(1024)]
        name = np.dtype(dtype).name
        lists = attn.tolist()
        compare(
            rows,
            f"N = 1024, {name}",
            [
                ("attngraph.attention_graph", lambda: ours(attn, tokens), False),
                ("numpy nonzero", lambda: nonzero(attn, tokens), False),
                ("double loop over the array", lambda: double_loop(attn, tokens), True),
                ("double loop over lists", lambda: double_loop(lists, tokens), True),
            ],
            repeat,
        )
        attn, tokens = softmax_matrix(8192, dtype), [f"t{i}" for i in range(8192)]
        compare(
            rows,
            f"N = 8192, {name}",
            [
                ("attngraph.attention_graph", lambda: ours(attn, tokens), False),
                ("numpy nonzero", lambda: nonzero(attn, tokens), False),
            ],
            repeat,
        )
    return rows


def extract_rows(repeat):
    """What Python adds: the same extraction from a torch tensor and with nothing but views made beforehand."""
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((1, h, 8192, 64)).astype(np.float32) for h in (8, 8))
    arrays = {"numpy": (q, k)}
    try:
        import torch

        arrays["torch"] = (torch.from_numpy(q), torch.from_numpy(k))
    except ImportError:
        print("torch is not installed; its row is left out", file=sys.stderr)

    def native():
        options = ag._native.Options()
        options.threshold(0.05)
        options.causal(True)
        sink = ag._native.Sink.collect()
        ag._native.Context("auto").extract(views[0], views[1], options, sink)
        return sink.take_result()

    views = [ag._native.Tensor(x, "x") for x in (q, k)]
    edges = native().edge_count()
    rows = [{"what": "extract, 8 heads, N = 8192, D = 64", "how": "library alone", "edges": edges, **measure(native, repeat)}]
    for name, (tq, tk) in arrays.items():
        timed = measure(lambda: ag.extract(tq, tk, 0.05), repeat)
        rows.append({"what": rows[0]["what"], "how": f"extract from {name}", "edges": edges, **timed})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = attention_graph_rows(args.repeat) + extract_rows(args.repeat)
    if args.json:
        print(json.dumps({"cores": len(os.sched_getaffinity(0)), "version": ag.__version__, "rows": rows}, indent=1))
        return
    print(f"{'':36} {'':28} {'edges':>9} {'median ms':>10} {'min':>9} {'max':>9} {'x ours':>8}")
    first = {}
    for row in rows:
        base = first.setdefault(row["what"], row["median_ms"])
        print(
            f"{row['what']:36} {row['how']:28} {row['edges']:9,} {row['median_ms']:10.2f} {row['min_ms']:9.2f} "
            f"{row['max_ms']:9.2f} {row['median_ms'] / base:8.2f}"
        )


if __name__ == "__main__":
    main()
